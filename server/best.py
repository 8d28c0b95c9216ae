"""Which round of a run is the best, from its lines of figures alone."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["MOST_DB", "Judged", "best_round", "far_below", "judged"]

MOST_DB = 100.0
"""No two photos of 8 bits come nearer to each other without being equal."""
_FAR_DB = 3.0
"""A fall of the PSNR beyond what rounds differ by."""


class _Measure(NamedTuple):
    section: str
    name: str
    words: str
    unit: str
    sign: int
    """1 where more is better, -1 where less is."""
    largest: float
    """Beyond what is possible, as whatever is below 0."""


_MEASURES = (
    _Measure("server", "psnr", "PSNR at the server", " dB", 1, MOST_DB),
    _Measure("sites", "psnr", "PSNR at the sites", " dB", 1, MOST_DB),
    _Measure("training", "loss", "training loss", "", -1, math.inf),
)
"""The first that any of the rounds has judges them all."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A round by one measure."""

    round: int
    measure: _Measure
    value: float

    def __str__(self) -> str:
        return f"{self.measure.words} {self.value:.4g}{self.measure.unit}"


def best_round(
    entries: Iterable[Mapping[str, Any]], *, among: Collection[int] | None = None
) -> Judged | None:
    """The best of the rounds from 1 on, or of those ``among`` them; None if no figure judges any.

    The highest PSNR at the server; where no round has one, at the sites; where none has that
    either, the lowest training loss. Of equal rounds the first. What cannot be judges nothing: a
    figure that is not finite, a PSNR outside 0 to 100 dB, a loss below 0.

    The sites' figures are their word. A lie within what is possible can still make a round the
    best; the server's own faces (``evaluation.faces``) judge without them.
    """
    entries = [each for each in entries if among is None or each.get("round") in among]
    for measure in _MEASURES:
        rounds = [found for entry in entries if (found := _by(measure, entry)) is not None]
        if rounds:
            return max(rounds, key=lambda each: measure.sign * each.value)
    return None


def judged(entry: Mapping[str, Any]) -> Judged | None:
    """One round by the first measure that it has."""
    return best_round([entry])


def far_below(entry: Mapping[str, Any], best: Judged) -> Judged | None:
    """The round by the measure of ``best``, if its PSNR is more than 3 dB below it."""
    here = _by(best.measure, entry)
    if here is None or best.measure.name != "psnr" or best.value - here.value <= _FAR_DB:
        return None
    return here


def _by(measure: _Measure, entry: Mapping[str, Any]) -> Judged | None:
    number, figures = entry.get("round"), entry.get(measure.section)
    value = figures.get(measure.name) if isinstance(figures, Mapping) else None
    if not isinstance(number, int) or number < 1:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # Compared before it is a float: none holds 400 digits.
    if not 0 <= value <= min(measure.largest, sys.float_info.max):
        return None
    return Judged(number, measure, float(value))
