"""What photos have spent: an epsilon, never without the delta at which it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from facemorph_core.errors import FederationError
from facemorph_core.learning.privacy.unit import Unit, unit_of

_LARGEST = 1e12
"""No site goes on for so long."""


@dataclass(frozen=True, slots=True)
class Spent:
    """(epsilon, delta) for one unit at one site, add or remove."""

    epsilon: float
    delta: float
    unit: Unit = "photo"

    @classmethod
    def parse(cls, record: Mapping[str, object]) -> Spent:
        """Read what a site says in "epsilon" and "delta", and what they are for.

        Raises:
            FederationError: one is missing or impossible, or the unit is not known.
        """
        epsilon, delta = _number(record, "epsilon"), _number(record, "delta")
        if epsilon is None or not 0 <= epsilon <= _LARGEST:
            raise FederationError("the site does not say its epsilon, or one that cannot be")
        if delta is None or not 0 < delta < 1:
            raise FederationError("the site does not say the delta of its epsilon, or a wrong one")
        try:
            return cls(epsilon, delta, unit_of(record))
        except ValueError as error:
            raise FederationError(f"the site tells its epsilon for {error}") from None

    def as_record(self) -> dict[str, float]:
        """The numbers, which travel; the unit follows from the config, which both ends have."""
        return {"epsilon": self.epsilon, "delta": self.delta}

    def beside(self, other: Spent) -> Spent:
        """What holds for both, each by itself."""
        worst = max(self.epsilon, other.epsilon), max(self.delta, other.delta)
        return Spent(*worst, self.unit)


def rounded_up(epsilon: float) -> str:
    """With two decimals, and never less than it is.

    >>> rounded_up(3.2), rounded_up(3.201)
    ('3.20', '3.21')
    """
    return str(Decimal(repr(epsilon)).quantize(Decimal("0.01"), ROUND_CEILING))


def _number(record: Mapping[str, object], name: str) -> float | None:
    """The figure, or None where it is none or larger than any."""
    value = record.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= _LARGEST else None
