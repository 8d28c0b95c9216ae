"""What a site says about a round, and how many reports become one.

Losses are averaged by examples. Scores travel as sums over a site's faces, so that their mean over
all sites is exact. Epsilon and its delta come with both and are none of these figures: they count
whether the reply is used or not, and `Spent.parse` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.wire import DELTA, EPSILON, EXAMPLES

_NOT_FIGURES = (EXAMPLES, EPSILON, DELTA)
_MOST_FIGURES, _LONGEST_NAME = 64, 64
_MOST_EXAMPLES = 2**40
_LARGEST = 1e12
"""Of a figure's mean over images: far above all of ours, and far below what a sum cannot hold."""


@dataclass(frozen=True, slots=True)
class RoundReport:
    """A site's training round: how many images, and the mean of each figure over them."""

    examples: int
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, record: Mapping[str, object]) -> RoundReport:
        """Read what a site sent.

        Raises:
            FederationError: naming the figure that is missing, not a finite number or too large.
        """
        examples, figures = _parse(record, per_image=False)
        return cls(examples, figures)

    def counted_as(self, examples: int) -> RoundReport:
        """The same means, for a site that counts as ``examples`` images."""
        return RoundReport(examples, self.figures)

    def as_record(self) -> dict[str, int | float]:
        """The form in which it travels."""
        return {EXAMPLES: self.examples, **self.figures}


@dataclass(frozen=True, slots=True)
class ScoreSums:
    """Sums of each score over ``examples`` faces; never a face's own score."""

    examples: int
    sums: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, record: Mapping[str, object]) -> ScoreSums:
        """Read what a site sent; raises like `RoundReport.parse`."""
        return cls(*_parse(record, per_image=True))

    def counted_as(self, examples: int) -> ScoreSums:
        """The same means, for a site that counts as ``examples`` faces."""
        share = examples / self.examples
        sums = {name: total * share for name, total in self.sums.items()}
        return ScoreSums(examples, sums)

    def as_record(self) -> dict[str, int | float]:
        """The form in which it travels."""
        return {EXAMPLES: self.examples, **self.sums}

    def means(self) -> dict[str, float]:
        """Mean of each score over the faces."""
        return {name: total / self.examples for name, total in self.sums.items()}


def merge_reports(reports: Sequence[RoundReport]) -> RoundReport:
    """One report for all sites; only figures that every site gave."""
    examples = sum(report.examples for report in reports)
    figures = {}
    for name in _common([report.figures for report in reports]):
        shares = ((report.examples / examples, report.figures[name]) for report in reports)
        figures[name] = math.fsum(share * value for share, value in shares)
    return RoundReport(examples, figures)


def merge_scores(scores: Sequence[ScoreSums]) -> ScoreSums:
    """Sums over all sites' faces; only scores that every site gave."""
    names = _common([score.sums for score in scores])
    return ScoreSums(
        examples=sum(score.examples for score in scores),
        sums={name: math.fsum(score.sums[name] for score in scores) for name in names},
    )


def _common(figures: Sequence[Mapping[str, float]]) -> list[str]:
    if not figures:
        return []
    return [name for name in figures[0] if all(name in other for other in figures[1:])]


def _parse(record: Mapping[str, object], *, per_image: bool) -> tuple[int, dict[str, float]]:
    """The count and the figures, which are sums over the images counted if ``per_image``."""
    if len(record) > _MOST_FIGURES:
        raise FederationError(f"{len(record)} figures, more than {_MOST_FIGURES}")
    examples = record.get(EXAMPLES)
    if not isinstance(examples, int) or isinstance(examples, bool) or examples < 1:
        raise FederationError(f"{EXAMPLES} must be a whole number above 0 (got {_short(examples)})")
    if examples > _MOST_EXAMPLES:
        raise FederationError(f"{EXAMPLES} is {_short(examples)}, no number of images")
    largest = _LARGEST * (examples if per_image else 1)
    return examples, {
        name: _figure(name, value, largest)
        for name, value in record.items()
        if name not in _NOT_FIGURES
    }


def _figure(name: str, value: object, largest: float) -> float:
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise FederationError(f"a figure's name is no short line of text (got {_short(name)})")
    if not isinstance(value, int | float) or not -math.inf < value < math.inf:
        raise FederationError(f"figure {name!r} is not a finite number (got {_short(value)})")
    if abs(value) > largest:
        raise FederationError(f"figure {name!r} is too large (got {_short(value)})")
    return float(value)


def _short(value: object) -> str:
    """``value`` as a message may show it, whatever a site made of it."""
    match value:
        case str() | bytes() | list():
            value = value[:20]
        case int() if value.bit_length() > 100:
            return f"a whole number of {value.bit_length()} bits"
    return f"{value!r:.40}"
