"""The page of a run, made from the files in its directory alone."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from facemorph_core.config import RunConfig, load_run_config
from facemorph_core.disk.records import numbered, read_metrics, write_atomic
from facemorph_core.learning.privacy import Told, read_told
from facemorph_core.learning.privacy.spent import rounded_up
from facemorph_core.learning.privacy.unit import words_for
from facemorph_core.pictures.chart import Line, line_chart
from facemorph_core.shards.rows import spread

_SHOWN_SAMPLES = 6


def write_run_report(run: Path) -> Path:
    """Write ``report.html`` into a run directory: figures, curves and pictures in one file.

    Raises:
        ConfigError: if the directory holds no readable ``config.yaml``.
        OutputError: if the page cannot be written.
    """
    config = load_run_config(run / "config.yaml")
    rounds = read_metrics(run)
    environment = Environment(
        loader=PackageLoader("facemorph_core.learning.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("run.html.j2").render(
        config=config,
        config_text=(run / "config.yaml").read_text(encoding="utf-8"),
        rounds=rounds,
        facts=facts(config, rounds),
        charts=[chart for chart in charts(rounds) if chart],
        samples=[(path.stem, _inline(path)) for path in _spread(run / "samples")],
        partition=_json(run / "partition.json"),
        attribute=getattr(config.data.partition, "attribute", None),
        partition_picture=_inline(run / "partition.png"),
        morph_sheet=_inline(run / "morph.png"),
        morph_before=_inline(run / "morph-before.png"),
        morph_gif=_inline(run / "morph.gif"),
        privacy=privacy_words(config, read_told(run)),
    )
    path = run / "report.html"
    write_atomic(path, page.encode("utf-8"))
    return path


def facts(config: RunConfig, rounds: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What a reader wants to know first, as name and value."""
    done = [entry for entry in rounds if entry["round"] > 0]
    merged = [entry for entry in done if entry["merged"]]
    rows = [
        ("model", f"{config.model.kind}, {config.model.latent_dim} numbers a face"),
        ("rounds", f"{len(merged)} merged of {len(done)} done, {config.federation.rounds} planned"),
        ("rule", config.federation.strategy.kind),
    ]
    if merged:
        sites = sorted({site for entry in merged for site in entry["used"]})
        rows += [
            ("sites", f"{len(sites)}: {', '.join(sites[:8])}{' ...' if len(sites) > 8 else ''}"),
            ("images a round", str(merged[-1]["examples"])),
            ("left the sites", f"{sum(e['bytes_up'] for e in done) / 1e6:.1f} MB of weights"),
            ("seconds in rounds", f"{sum(e['seconds'] for e in done):.0f}"),
        ]
    scored = [entry for entry in rounds if entry["server"]]
    if scored:
        first, last = scored[0]["server"], scored[-1]["server"]
        for name, unit in (("psnr", " dB"), ("ssim", "")):
            if name in last:
                rows.append(
                    (
                        f"{name.upper()}, {last['faces']:.0f} public faces of people at no site",
                        f"{first[name]:.3g} before, {last[name]:.4g}{unit} after",
                    )
                )
    return rows


def charts(rounds: list[dict[str, Any]]) -> list[str]:
    """Curves over the rounds."""

    def curve(name: str, section: str, key: str) -> Line:
        points = [(e["round"], e[section][key]) for e in rounds if key in e.get(section, {})]
        return Line(name, points)

    terms = sorted({key for entry in rounds for key in entry.get("training", {})})
    losses = [t for t in terms if t not in {"seconds", "images", "steps", "epsilon", "delta"}]
    return (
        [
            line_chart(
                f"{title} (higher is better)",
                [curve("public faces", "server", key), curve("kept aside at sites", "sites", key)],
                x_label="round",
                unit=unit,
            )
            for key, title, unit in (("psnr", "PSNR", " dB"), ("ssim", "SSIM", ""))
        ]
        + [
            line_chart(f"training: {term}", [curve(term, "training", term)], x_label="round")
            for term in losses
        ]
        + [line_chart("epsilon", [curve("largest site", "training", "epsilon")], x_label="round")]
    )


def privacy_words(config: RunConfig, told: Told) -> str:
    """What was released and under which promise, in one paragraph."""
    released = (
        "Left the sites: encoder and decoder weights, image counts and the mean figures below. "
        "Photos, codes of faces and file names did not leave."
    )
    if config.privacy is None:
        return (
            f"{released} Trained without differential privacy: the weights themselves may still "
            "reveal training photos."
        )
    unit = words_for(told.unit)
    return (
        f"{released} Trained with DP-SGD at every site: epsilon {told.in_words()}; at most "
        f"{rounded_up(config.privacy.max_epsilon)} at delta {config.privacy.delta!r} was allowed. "
        f"Composed over all that was released of the {unit.many}, merged or not, the largest of "
        f"the sites, by their own word. The unit is one {unit.one}, neighbours differ by adding or "
        f"removing one. Not covered: {unit.beyond}, and the counts of photos."
    )


def _inline(path: Path) -> str:
    """A picture as a data URL, or nothing where there is none. Stills are made smaller."""
    if not path.exists():
        return ""
    kind, content = path.suffix.removeprefix("."), path.read_bytes()
    if kind == "png":
        packed = io.BytesIO()
        Image.open(path).convert("RGB").save(packed, "WEBP", quality=85)
        kind, content = "webp", packed.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _spread(folder: Path) -> list[Path]:
    """The first, the last and some pictures between them."""
    pictures = list(numbered(folder, "round", ".png").values())
    return [pictures[i] for i in spread(np.arange(len(pictures)), _SHOWN_SAMPLES)]
