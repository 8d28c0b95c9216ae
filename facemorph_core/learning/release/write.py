"""Writing a bundle: export, check parity against torch, describe, pack.

Three promises are checked before anything is written. On the images of the test vector the file
computes what torch computes with the weights as stored, and rounding the weights for shipping
changes neither codes nor images by more than stated here: if half precision breaks that, the
weights are stored as float32 instead. And a reader takes what is written.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import facemorph_core
from facemorph_core.alignment.frame import framing
from facemorph_core.bundle.archive import pack
from facemorph_core.bundle.card import write_card
from facemorph_core.bundle.graph import GraphRefused, read_graph
from facemorph_core.bundle.manifest import (
    CARD,
    DECODER,
    ENCODER,
    MANIFEST,
    NOT_PRIVATE,
    TEST_VECTOR,
    Framing,
    Manifest,
    Member,
)
from facemorph_core.bundle.read import from_model, to_model
from facemorph_core.bundle.reference import Reference, draw_pixels, pack_reference
from facemorph_core.disk.output import written_whole
from facemorph_core.errors import ModelError
from facemorph_core.latent.geometry import GeometryKind, geometry_of
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.release.onnx import Precision, export_half
from facemorph_core.machine.inference import cpu_session

log = logging.getLogger(__name__)

EXPORT_TOLERANCE = 1e-3
"""File against torch with the weights as stored: images in [-1, 1], codes relative to length."""
ROUNDING_TOLERANCE = 0.02
"""File against torch with exact weights, in the same units."""


@dataclass(frozen=True)
class _Outputs:
    codes: NDArray[np.float32]  # of the test images
    images: NDArray[np.float32]  # of given codes, (n, 3, S, S) in [-1, 1]

    def error(self, truth: _Outputs) -> float:
        """The larger of the two errors; NaN if anything is not a number."""
        lengths = np.linalg.norm(truth.codes, axis=1) + 1e-6
        code_error = (np.linalg.norm(self.codes - truth.codes, axis=1) / lengths).max()
        return float(np.maximum(code_error, np.abs(self.images - truth.images).max()))


def write_bundle(
    model: Autoencoder,
    out: Path,
    *,
    config: Mapping[str, Any],
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    privacy: Mapping[str, Any] | str | None = None,
    card_notes: str | None = None,
    scored: str | None = None,
) -> Path:
    """Write ``model`` (``code`` and ``decode``, see `facemorph_core.learning.models`) to ``out``.

    ``config`` is the resolved run config as plain values; its ``name`` names the model, and of
    the folders in it only the last name is kept: the others tell about a machine. An existing
    file is replaced, whole or not at all. Without ``privacy`` the bundle says that no
    guarantee is given. ``scored`` are the `Manifest.networks` that the metrics were taken with.

    Raises:
        ModelError: the exported networks do not compute what torch computes, are refused by
            readers, or are not those that were scored.
        OutputError: ``out`` cannot be written.
    """
    kind: GeometryKind = _of_model(config, "geometry") or "plain"
    geometry = geometry_of(kind, int(model.image_size))
    halves, reference, precision = _export(model)
    manifest = Manifest(
        kind=_of_model(config, "kind"),
        name=str(config.get("name") or out.stem),
        latent_dim=int(model.latent_dim) + geometry.numbers,
        image_size=geometry.size,
        geometry=kind,
        framing=Framing.model_validate(framing()),
        precision=precision,
        training=_plain(training),
        metrics=_plain(metrics),
        privacy=NOT_PRIVATE if privacy is None else _plain(privacy),
        created=datetime.now(UTC).replace(microsecond=0),
        core_version=facemorph_core.__version__,
        config=_without_paths(config),
    )
    members = {
        **halves,
        CARD: write_card(manifest, card_notes).encode(),
        TEST_VECTOR: pack_reference(reference),
    }
    listed = {
        name: Member(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in members.items()
    }
    manifest = manifest.model_copy(update={"members": listed})
    if scored is not None and scored != manifest.networks:
        raise ModelError(
            f"the scores are those of another model: its networks are {scored[:12]}, these "
            f"{manifest.networks[:12]}",
            hint="evaluate this very model: facemorph-core evaluate --report FOLDER",
        )
    text = manifest.model_dump_json(indent=1)
    with written_whole(out, force=True) as temporary:
        temporary.write_bytes(pack({MANIFEST: text.encode(), **members}))
    return out


def _export(model: Autoencoder) -> tuple[dict[str, bytes], Reference, Precision]:
    """Both ONNX files, the test vector they reproduce, and the precision that was needed."""
    exact = copy.deepcopy(model).cpu().float().eval()
    pixels = draw_pixels(int(model.image_size))
    truth = _run_torch(exact, pixels)
    error = float("nan")
    precisions: tuple[Precision, ...] = ("float16", "float32")
    for precision in precisions:
        halves = {
            ENCODER: export_half(exact, "encoder", precision=precision),
            DECODER: export_half(exact, "decoder", precision=precision),
        }
        rounded = _rounded(exact, precision)
        found = _run_onnx(halves, pixels, truth.codes)
        error, off = found.error(_run_torch(rounded, pixels, truth.codes)), found.error(truth)
        if not all(parameter.isfinite().all() for parameter in rounded.parameters()):
            error = off = float("nan")  # such a weight may hide behind a cut to [-1, 1]
        if error <= EXPORT_TOLERANCE and off <= ROUNDING_TOLERANCE:
            _check_readable(halves, exact)
            return halves, _reference(halves, pixels), precision
        log.warning("weights stored as %s are off by %.2g", precision, off)
    raise ModelError(
        f"the exported networks are off by {error:.2g} from torch (allowed: {EXPORT_TOLERANCE:g})",
        hint="the weights may not be finite: try an earlier round with --round",
    )


def _check_readable(halves: Mapping[str, bytes], model: Autoencoder) -> None:
    """Refuse to write what every reader would refuse."""
    sizes = {"image_size": int(model.image_size), "latent_dim": int(model.latent_dim)}
    for member, data in halves.items():
        try:
            read_graph(data, half=member.removesuffix(".onnx"), **sizes)
        except GraphRefused as error:
            raise ModelError(
                f"the exported {member} would be refused by whoever reads it: {error}",
                hint=f"if the model is of a usual size, try another torch than {torch.__version__}",
            ) from None


def _reference(halves: Mapping[str, bytes], pixels: NDArray[np.uint8]) -> Reference:
    codes = _infer(halves[ENCODER], to_model(pixels))
    return Reference(pixels, codes, from_model(_infer(halves[DECODER], codes)))


def _rounded(model: Autoencoder, precision: Precision) -> Autoencoder:
    dtype = torch.float16 if precision == "float16" else torch.float32
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.data = parameter.data.to(dtype).float()
    return twin


def _run_torch(
    model: Autoencoder, pixels: NDArray[np.uint8], codes: NDArray[np.float32] | None = None
) -> _Outputs:
    with torch.no_grad():
        own = model.code(torch.from_numpy(to_model(pixels)))
        images = model.decode(own if codes is None else torch.from_numpy(codes))
    return _Outputs(own.numpy(), images.numpy())


def _run_onnx(
    halves: Mapping[str, bytes], pixels: NDArray[np.uint8], codes: NDArray[np.float32]
) -> _Outputs:
    return _Outputs(_infer(halves[ENCODER], to_model(pixels)), _infer(halves[DECODER], codes))


def _infer(graph: bytes, values: NDArray[np.float32]) -> NDArray[np.float32]:
    session = cpu_session(graph)
    return session.run(None, {session.get_inputs()[0].name: values})[0]


def _of_model(config: Mapping[str, Any], key: str) -> Any:
    model = config.get("model")
    return model.get(key) if isinstance(model, Mapping) else None


def _without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    shared: dict[str, Any] = _plain(config)
    for section, key in (("data", "path"), ("evaluation", "shard")):
        values = shared.get(section)
        if isinstance(values, dict) and values.get(key):
            values[key] = Path(values[key]).name
    if shared.get("start"):
        shared["start"] = str(shared["start"]).rpartition("/")[2]
    return shared


def _plain(value: Any) -> Any:
    """``value`` as JSON holds it: no NumPy numbers, and None for what is not a number."""
    match value:
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case np.generic():
            return _plain(value.item())
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
