"""What the benchmark of morphs says: Markdown for the docs, JSON for a machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from benchmarks.morphs.entrants import OPENCV
from benchmarks.morphs.run import Cost, MorphsReport
from benchmarks.table import markdown_table

__all__ = ["to_json", "to_markdown"]


def to_json(report: MorphsReport) -> dict[str, Any]:
    """Everything, with the ratios that the table shows."""
    ratios = _ratios(report)
    return {
        "machine": report.machine,
        "rows": [
            asdict(cost) | {"median": cost.median, "relative": ratio}
            for cost, ratio in zip(report.costs, ratios, strict=True)
        ],
        "left_out": report.left_out,
    }


def to_markdown(report: MorphsReport) -> str:
    """One table, and who is missing in it."""
    headings = [
        *("", "file", "seconds, median [least, most]", "to plain OpenCV", "peak memory, MiB"),
        "imports torch",
    ]
    pairs = zip(report.costs, _ratios(report), strict=True)
    table = markdown_table(headings, [_line(cost, ratio) for cost, ratio in pairs])
    parts = [f"Measured on {report.machine}.", table, report.left_out]
    return "\n\n".join(filter(None, parts)) + "\n"


def _line(cost: Cost, ratio: float | None) -> list[str]:
    return [
        cost.name,
        PurePath(cost.writes).suffix[1:].upper() or "-",
        f"{cost.median:.2f} [{min(cost.seconds):.2f}, {max(cost.seconds):.2f}]",
        "-" if ratio is None else f"{ratio:.2f}",
        f"{cost.peak_mib:.0f}",
        "yes" if cost.imports_torch else "no",
    ]


def _ratios(report: MorphsReport) -> list[float | None]:
    """Of each one's time to that of the plain morph that makes the same kind of file."""
    plain = {cost.writes: cost for cost in report.costs if cost.name == OPENCV}
    return [
        cost.relative_to(plain[cost.writes]) if cost.writes in plain else None
        for cost in report.costs
    ]
