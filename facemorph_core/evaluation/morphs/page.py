"""The page of morphs: film strips, curves along alpha, and the figures of all modes."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.disk.records import write_atomic
from facemorph_core.evaluation.morphs.study import CURVE, Study
from facemorph_core.evaluation.morphs.summary import MEASURES, PEER, Summary
from facemorph_core.metrics.bootstrap import Interval
from facemorph_core.morphing.film_strips import Strip, film_strip
from facemorph_core.pictures.chart import Line, line_chart
from facemorph_core.pictures.provenance import Note

__all__ = ["cells", "column_names", "write_morph_report"]

READING = (
    "Middle frames are those at alpha 0.5, all at 128 pixels. In brackets: 95 % of resamples in "
    "which people, not pairs, are drawn."
)


def write_morph_report(
    path: Path,
    study: Study,
    summary: Summary,
    strips: Sequence[Strip],
    *,
    title: str,
    note: Note | None = None,
) -> None:
    """Write the page, in one file; ``note`` is what each strip in it says of itself.

    Raises:
        OutputError: it cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("facemorph_core.evaluation.morphs", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    facts = study.facts
    page = environment.get_template("morphs.html.j2").render(
        title=title,
        about=f"{facts['about']}; the model {facts['model']} ({facts['model_sha256'][:12]}).",
        columns=column_names(study, summary),
        rows=cells(study, summary),
        reading=READING,
        not_measured=sorted(facts["not_measured"].items()),
        charts=[chart for chart in _charts(study) if chart],
        strips=[
            {
                "pictures": [
                    {"mode": mode, "source": _inline(f, note)} for mode, f in each.frames.items()
                ]
            }
            for each in strips
        ],
    )
    write_atomic(path, page.encode("utf-8"))


def cells(study: Study, summary: Summary) -> list[dict[str, Any]]:
    """Rows of the table: a title, and a value with its range for each column."""
    rows = []
    for measure in MEASURES:
        by_mode = [summary.modes[mode].get(measure.name) for mode in study.modes]
        if all(interval is None or math.isnan(interval.mean) for interval in by_mode):
            continue
        unit = f" {measure.unit}" if measure.unit else ""
        found = [_cell(interval, measure.digits, unit) for interval in by_mode]
        found += [
            _cell(less.get(measure.name), measure.digits, unit, signed=True)
            for less in summary.less.values()
            if PEER in study.modes
        ]
        if summary.bound:
            found.append(_cell(summary.bound.get(measure.name), measure.digits, unit))
        rows.append({"title": measure.title, "cells": found})
    ratios = [times["mmpmr"] for times in summary.times.values() if "mmpmr" in times]
    if ratios:
        blank = {"value": "", "range": ""}
        row = [blank] * len(study.modes) + [_cell(ratio, 2, " times") for ratio in ratios]
        rows.append({"title": f"MMPMR over that of {PEER}", "cells": row})
    return rows


def column_names(study: Study, summary: Summary) -> list[str]:
    """The headings of `cells`."""
    less = [f"{mode} - {PEER}" for mode in summary.less if PEER in study.modes]
    return [*study.modes, *less, *(["embeddings' midpoint"] if summary.bound else [])]


def _cell(
    interval: Interval | None, digits: int, unit: str, *, signed: bool = False
) -> dict[str, str]:
    if interval is None or math.isnan(interval.mean):
        return {"value": "", "range": ""}
    sign = "+" if signed else ""
    known = not math.isnan(interval.low)
    limits = f"[{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]" if known else ""
    return {"value": f"{interval.mean:{sign}.{digits}f}{unit}", "range": limits}


def _charts(study: Study) -> list[str]:
    charts = []
    columns = [(mode, study.columns[mode]) for mode in study.modes]
    if all("to_a" in own for _, own in columns):
        lines = [
            Line(mode, list(zip(CURVE.tolist(), np.nanmean(own["to_b"], axis=0), strict=True)))
            for mode, own in columns
            if np.isfinite(own["to_b"]).any()
        ]
        charts.append(line_chart("Distance to the second parent", lines, x_label="alpha"))
    if all("steps" in own for _, own in columns):
        lines = []
        for mode, own in columns:
            steps = own["steps"].mean(axis=0)
            middles = (np.arange(len(steps)) + 0.5) / len(steps)
            lines.append(Line(mode, list(zip(middles.tolist(), steps.tolist(), strict=True))))
        charts.append(line_chart("LPIPS from frame to frame", lines, x_label="alpha"))
    return charts


def _inline(frames: NDArray[np.uint8], note: Note | None) -> str:
    buffer = io.BytesIO()
    said = {"xmp": note.xmp} if note else {}
    Image.fromarray(film_strip(frames)).save(buffer, "JPEG", quality=90, **said)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
