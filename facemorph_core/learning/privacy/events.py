"""Facts about what was released. What they cost is computed elsewhere (`accountant`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from facemorph_core.config.schema import MOST_NOISE

MOST_STEPS = 10**12
"""Beyond it nobody could make them."""


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
        is_noise, is_rate = 0 < self.noise_multiplier <= MOST_NOISE, 0 < self.sample_rate <= 1
        if not (is_noise and is_rate and 0 <= self.steps <= MOST_STEPS):
            raise ValueError(f"not a possible release: {self}")


@dataclass(frozen=True, slots=True)
class PlainRelease:
    """Something that was computed from the photos left without noise: nothing bounds its cost."""

    what: Literal["weights", "scores"]

    def __post_init__(self) -> None:
        if self.what not in ("weights", "scores"):
            raise ValueError(f"not a possible release: {self}")


Event = GaussianSteps | PlainRelease
