"""Federated beside central training: a table, curves over images and over bytes, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.federation.rows import BASE, CENTRAL, Setting
from benchmarks.federation.run import PCA, Result
from benchmarks.table import markdown_table
from facemorph_core.metrics.bootstrap import Interval, interval_of_difference, interval_of_mean
from facemorph_core.pictures.chart import Line, line_chart

__all__ = ["Summary", "charts", "summaries", "to_json", "to_markdown"]

STEEP = 3.0
"""dB below the worst end at which charts begin: a curve's first rounds would flatten the rest."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A row over all seeds."""

    name: str
    label: str
    psnr: Interval
    """dB, over people, of the mean over seeds."""
    to_central: Interval | None
    """dB above central training; None for itself and for PCA."""
    seeds: list[float]
    """Mean PSNR of each seed, dB."""
    images: int
    rounds: int
    bytes_up: int
    """Of all sites in all rounds, mean over seeds."""
    bytes_down: int
    seconds: float
    precision: str
    """What it was trained in, all if its seeds differ; empty for PCA."""


def summaries(results: Sequence[Result], rows: Sequence[Setting]) -> list[Summary]:
    """One for PCA-128 and each row that has results, in the order of ``rows``."""
    labels = {PCA: "PCA-128"} | {row.name: row.label for row in rows}
    central = [result for result in results if result.name == CENTRAL]
    reference = _over_seeds(central) if central else None
    found = []
    for name, label in labels.items():
        own = [result for result in results if result.name == name]
        if own:
            found.append(_summary(label, own, None if name in (CENTRAL, PCA) else reference))
    return found


def to_markdown(found: Sequence[Summary]) -> str:
    """What was trained in what, and the table."""
    told = sorted({each.precision for each in found if each.precision})
    base = next((each.bytes_up for each in found if each.name == BASE), 0)
    lines = [
        [
            each.label,
            f"{each.rounds}" if each.bytes_up else "-",
            f"{each.images:,}" if each.images else "-",
            _interval(each.psnr),
            "-" if each.to_central is None else _interval(each.to_central, "+"),
            " / ".join(f"{value:.2f}" for value in each.seeds),
            f"{each.bytes_up / 1e6:,.0f}" if each.bytes_up else "-",
            f"{each.bytes_up / base:.3f}" if base and each.bytes_up else "-",
        ]
        for each in found
    ]
    headings = [
        *("", "rounds", "images seen", "PSNR, dB", "to central, dB", "seeds"),
        *("MB from all sites", "of the base"),
    ]
    trained = f"Trained in {' and '.join(told)}.\n\n" if told else ""
    return f"{trained}{markdown_table(headings, lines)}\n"


def to_json(found: Sequence[Summary], results: Sequence[Result]) -> dict[str, Any]:
    """The table and the curves."""
    return {
        "rows": [asdict(each) for each in found],
        "curves": [{"name": each.name, "seed": each.seed, "curve": each.curve} for each in results],
    }


def charts(results: Sequence[Result], rows: Sequence[Setting]) -> dict[str, str]:
    """SVG of the PSNR of unseen faces over images seen and over bytes sent, first seed each."""
    labels = {row.name: row.label for row in rows}
    trained = [each for each in results if each.name in labels]
    seed = min((each.seed for each in trained), default=0)
    first = [each for each in trained if each.seed == seed]
    lowest = min((each.curve[-1][2] for each in first), default=0.0) - STEEP
    over_images = [
        Line(labels[each.name], [(n / 1000, dB) for n, _, dB in each.curve]) for each in first
    ]
    over_bytes = [
        Line(labels[each.name], [(sent / 1e6, dB) for _, sent, dB in each.curve])
        for each in first
        if each.bytes_up
    ]
    title = "PSNR of unseen faces, dB"
    draw = partial(line_chart, title, unit=" dB", lowest=lowest)
    return {
        "images": draw(over_images, x_label="thousand images"),
        "bytes": draw(over_bytes, x_label="MB from all sites"),
    }


def _summary(label: str, own: list[Result], reference: NDArray[np.float64] | None) -> Summary:
    scores, people, count = _over_seeds(own), own[0].people, len(own)
    to_central = None
    if reference is not None:
        to_central = interval_of_difference(scores, reference, people)
    return Summary(
        name=own[0].name,
        label=label,
        psnr=interval_of_mean(scores, people),
        to_central=to_central,
        seeds=[float(np.mean(each.psnr)) for each in own],
        images=own[0].curve[-1][0] if own[0].curve else 0,
        rounds=len(own[0].curve),
        bytes_up=sum(each.bytes_up for each in own) // count,
        bytes_down=sum(each.bytes_down for each in own) // count,
        seconds=sum(each.seconds for each in own) / count,
        precision=" and ".join(sorted({each.precision for each in own} - {""})),
    )


def _over_seeds(own: Sequence[Result]) -> NDArray[np.float64]:
    """Each face's mean over the seeds."""
    return np.mean([each.psnr for each in own], axis=0)


def _interval(value: Interval, sign: str = "") -> str:
    return f"{value.mean:{sign}.2f} [{value.low:{sign}.2f}, {value.high:{sign}.2f}]"
