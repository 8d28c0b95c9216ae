"""What a reader of exported graphs must know: ranges, layout, alignment, lengths of the code.

It is written beside the graphs as a page, with the frame as numbers, and into each of them as
metadata, so that a graph that travels alone still says what it is.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from jinja2 import Environment, PackageLoader, StrictUndefined

from facemorph_core.alignment.frame import frame_digest, mean_shape, shape_basis
from facemorph_core.bundle import Bundle
from facemorph_core.disk.output import written_whole
from facemorph_core.latent.mean_shape import FARTHEST

__all__ = ["ABOUT", "FRAME", "described", "metadata", "write_about"]

ABOUT, FRAME = "about.md", "frame.json"
_LEFT = "facemorph."
"""What the names of our metadata begin with."""


def metadata(bundle: Bundle) -> dict[str, str]:
    """Names and values for the graphs' metadata_props, all text."""
    manifest = bundle.manifest
    side = manifest.image_size
    facts = {
        "model": manifest.name,
        "bundle_sha256": bundle.digest,
        "made_with": f"facemorph-core {manifest.core_version}",
        "images": f"float32 (n, 3, {side}, {side}), RGB, values in [-1, 1]: level / 127.5 - 1",
        "code": f"float32 (n, {manifest.network_numbers})",
        "code_of_a_face": str(manifest.latent_dim),
        "geometry": manifest.geometry,
        "framing": manifest.framing.model_dump_json(),
        "frame_sha256": frame_digest(),
    }
    return {_LEFT + name: value for name, value in facts.items()}


def described(model: onnx.ModelProto, bundle: Bundle) -> None:
    """Write the metadata into the graph."""
    onnx.helper.set_model_props(model, metadata(bundle))
    model.producer_name, model.producer_version = "facemorph-core", bundle.manifest.core_version


def write_about(bundle: Bundle, folder: Path, *, force: bool = False) -> list[Path]:
    """The page and the numbers of the frame, into ``folder``.

    Raises:
        OutputError: one of them exists (without ``force``) or cannot be written.
    """
    basis = shape_basis()
    frame = {
        "size": bundle.manifest.framing.size,
        "mean_shape": mean_shape().round(4).tolist(),
        "shape_mean": basis.mean.round(4).tolist(),
        "shape_components": basis.components.round(6).tolist(),
        "shape_scales": basis.scales.round(6).tolist(),
    }
    texts = {ABOUT: _page(bundle), FRAME: json.dumps(frame) + "\n"}
    for name, text in texts.items():
        with written_whole(folder / name, force=force) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _page(bundle: Bundle) -> str:
    model = bundle.manifest
    template = Environment(
        loader=PackageLoader("facemorph_core", "deploy"),
        autoescape=False,  # Markdown, of a manifest whose names were checked
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    ).get_template("about.md.j2")
    shape, farthest = model.latent_dim - model.network_numbers, f"{FARTHEST:g}"
    return template.render(
        model=model, digest=bundle.digest, frame=FRAME, shape=shape, farthest=farthest
    )
