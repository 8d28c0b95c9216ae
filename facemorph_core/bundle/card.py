"""The model card that travels in a bundle: the manifest for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from facemorph_core.bundle.manifest import Manifest

_KINDS = {
    "ae": "a deterministic autoencoder",
    "vae": "a variational autoencoder",
    "vaegan": "a variational autoencoder trained with a discriminator",
}
_DATA = {
    "orl": "AT&T/ORL database of faces. Credit: AT&T Laboratories Cambridge.",
    "celeba": "CelebA (Liu et al., 2015). It may be used for **non-commercial research only**, "
    "and that holds for these weights too.",
    "folder": "A private folder of photos; ask whoever trained the model for their terms.",
    "shard": "A prepared shard of photos. The notes below, or whoever trained the model, name them "
    "and their terms.",
}
GROUP_SCORES = ("psnr", "psnr_hull", "ssim", "lpips", "identity.same_photo")
"""What the card shows for each group of people."""
_SITES = (
    "At a real site the photos are the site's own, whatever the data section of the config says."
)
_LIMITS = (
    "A code of {latent_dim} numbers keeps pose, light and the rough likeness; fine detail and "
    "much of the identity are lost.",
    "Faces unlike those of the training data come out worse: other ages, skin tones, poses, "
    "glasses, drawings.",
    "Alignment finds 68 landmarks with weights trained on iBUG 300-W, whose authors exclude "
    "commercial use.",
    "The figures were taken on aligned {image_size} px faces; do not compare them across framings.",
)
_USE = (
    "Morph only people who agreed to it, or faces that are free to use.",
    "Say that a morph is a morph wherever it is shown; the files this tool writes carry a note.",
    "Never use one as an identity document photo, to pass a face check, to deceive or to harass.",
)


def write_card(manifest: Manifest, notes: str | None = None) -> str:
    """Markdown of what the model is, was trained on, can and must not do."""
    kind = _KINDS.get(manifest.kind, f"an autoencoder of the kind '{manifest.kind}'")
    model = (
        f"This is {kind} of aligned faces, {manifest.image_size} x "
        f"{manifest.image_size} pixels, {manifest.latent_dim} numbers a face. The eyes of the "
        f"frame lie {manifest.framing.eye_distance:g} px apart in {manifest.framing.size} px."
    )
    sections = {
        "What it is": _paragraph(model),
        "Training": "\n\n".join([_data(manifest), _table(manifest.training)]),
        "Figures": _figures(manifest.metrics) if manifest.metrics else "None were taken.",
        "Privacy": _privacy(manifest.privacy),
        "Limits": _list(line.format(**manifest.model_dump()) for line in _LIMITS),
        "Responsible use": _list(_USE),
        "Notes": (notes or "").strip(),
    }
    made = f"Made on {manifest.created:%Y-%m-%d %H:%M} UTC by facemorph-core "
    parts = [f"# {manifest.name}", f"{made}{manifest.core_version}."]
    parts += [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"


def _figures(metrics: Mapping[str, JsonValue]) -> str:
    """Single numbers, means with their intervals, and who is served well and who is not."""
    groups = metrics.get("groups")
    whole = _table({key: value for key, value in metrics.items() if key != "groups"})
    return f"{whole}\n\n{_by_group(groups)}" if isinstance(groups, Mapping) else whole


def _by_group(groups: Mapping[str, Any]) -> str:
    parts = [(f"{trait}: {name}", g) for trait, each in groups.items() for name, g in each.items()]
    scores = [name for name in GROUP_SCORES if any(name in part["scores"] for _, part in parts)]
    head = ["", "faces", "people", *scores]
    rows = [
        [name, part["faces"], part["people"], *(_interval(part["scores"].get(s)) for s in scores)]
        for name, part in parts
    ]
    return "\n".join(_row(cells) for cells in (head, ["---"] * len(head), *rows))


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _is_interval(value: JsonValue) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"mean", "low", "high"}


def _interval(value: Any) -> str:
    if value is None or value["mean"] is None:
        return "-"
    if value["low"] is None:
        return f"{value['mean']:.3g}"
    return f"{value['mean']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"


def flat(values: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Nested values as (dotted key, value); an interval is one value."""
    for key, value in values.items():
        if _is_interval(value):
            yield prefix + key, _interval(value)
        elif isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _data(manifest: Manifest) -> str:
    data = manifest.config.get("data")
    source = data.get("source") if isinstance(data, Mapping) else None
    known = _DATA.get(str(source), "The config does not say which photos were used.")
    return _paragraph(f"{known} {_SITES}" if "sites" in manifest.training else known)


def _privacy(privacy: Mapping[str, JsonValue] | str) -> str:
    if isinstance(privacy, str):
        sentence = privacy.strip().rstrip(".")
        return _paragraph(sentence[:1].upper() + sentence[1:] + ".")
    return _table(privacy)


def _table(values: Mapping[str, JsonValue]) -> str:
    rows = [_row([key, _cell(value)]) for key, value in flat(values)]
    return "\n".join(["| | |", "|---|---|", *rows]) if rows else ""


def _cell(value: JsonValue) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _list(lines: Iterable[str]) -> str:
    return "\n".join(textwrap.fill(f"- {line}", 98, subsequent_indent="  ") for line in lines)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 98)
