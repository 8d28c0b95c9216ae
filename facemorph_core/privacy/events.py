"""Facts about what was released. What they cost is computed elsewhere (`accountant`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GaussianSteps:
    """``steps`` noised sums over a Poisson sample at rate ``sample_rate``, equal noise.

    The unit is one photo: neighbouring shards differ by adding or removing one photo. A person
    with several photos is not covered as a unit. Noise has standard deviation
    ``noise_multiplier`` times the bound on what one photo adds to the sum.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not (self.noise_multiplier > 0 and 0 < self.sample_rate <= 1 and self.steps >= 0):
            raise ValueError(f"not a possible release: {self}")


@dataclass(frozen=True, slots=True)
class PlainRelease:
    """Something that was computed from the photos left without noise: nothing bounds its cost."""

    what: Literal["weights", "scores"]

    def __post_init__(self) -> None:
        if self.what not in ("weights", "scores"):
            raise ValueError(f"not a possible release: {self}")


Event = GaussianSteps | PlainRelease
