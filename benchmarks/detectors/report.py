"""What the benchmark of detectors says: Markdown for the docs, JSON for a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.detectors.run import DetectorScores
from benchmarks.table import markdown_table
from facemorph_core.machine.describe import describe
from facemorph_core.metrics.bootstrap import Interval

__all__ = ["to_json", "to_markdown"]


def to_json(found: Sequence[DetectorScores]) -> dict[str, Any]:
    """Everything."""
    return {"machine": describe(), "detectors": [asdict(each) for each in found]}


def to_markdown(found: Sequence[DetectorScores]) -> str:
    """A table of sets, one of misses by group, and what was found where no face is."""
    parts = [f"Measured on {describe()}.", _sets(found), _groups(found), _costs(found)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _sets(found: Sequence[DetectorScores]) -> str:
    headings = [
        *("pictures", "", "detector", "found, %", "from dlib's, % of the eyes' distance"),
        *("jaw", "from its own, %", "eyes' scatter, %", "seconds of a core"),
    ]
    lines = [
        [
            kind,
            str(each.sets[kind].pictures),
            each.name,
            _cell(each.sets[kind].found),
            _cell(each.sets[kind].to_dlib),
            _cell(each.sets[kind].jaw_to_dlib),
            _cell(each.sets[kind].to_own),
            _cell(each.sets[kind].eyes_scatter),
            f"{each.sets[kind].seconds:.3f}",
        ]
        for kind in found[0].sets
        for each in found
    ]
    return markdown_table(headings, lines)


def _groups(found: Sequence[DetectorScores]) -> str:
    if not found[0].missed:
        return ""
    headings = ["trait", "group", "photos", *(f"{each.name} misses, %" for each in found)]
    lines = [
        [trait, name, str(count), *(_cell(each.missed[trait][name][1]) for each in found)]
        for trait, groups in found[0].missed.items()
        for name, (count, _) in groups.items()
    ]
    return markdown_table(headings, lines)


def _costs(found: Sequence[DetectorScores]) -> str:
    headings = ["detector", "faces where there is none", "of pictures", "memory it adds, MiB"]
    lines = [
        [each.name, f"{len(each.false)}", str(each.without), f"{each.mib:.0f}"] for each in found
    ]
    named = [f"{each.name}: {', '.join(each.false)}." for each in found if each.false]
    return "\n\n".join([markdown_table(headings, lines), *named])


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"
