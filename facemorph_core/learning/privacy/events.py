"""Facts about what was released. What they cost is computed elsewhere (`accountant`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from facemorph_core.config.schema import MOST_NOISE
from facemorph_core.learning.privacy.unit import Unit

MOST_STEPS = 10**12
"""Beyond it nobody could make them."""


@dataclass(frozen=True, slots=True)
class GaussianSteps:
    """``steps`` noised sums over a Poisson sample at rate ``sample_rate``, equal noise.

    Neighbouring shards differ by adding or removing one ``unit``: where that is a photo, a person
    with several is not covered. Noise has standard deviation ``noise_multiplier`` times the bound
    on what one unit adds to the sum.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    unit: Unit = "photo"

    def __post_init__(self) -> None:
        is_noise, is_rate = 0 < self.noise_multiplier <= MOST_NOISE, 0 < self.sample_rate <= 1
        is_count, is_unit = 0 <= self.steps <= MOST_STEPS, self.unit in get_args(Unit)
        if not (is_noise and is_rate and is_count and is_unit):
            raise ValueError(f"not a possible release: {self}")


@dataclass(frozen=True, slots=True)
class PlainRelease:
    """Something that was computed from the photos left without noise: nothing bounds its cost."""

    what: Literal["weights", "scores"]

    def __post_init__(self) -> None:
        if self.what not in ("weights", "scores"):
            raise ValueError(f"not a possible release: {self}")


Event = GaussianSteps | PlainRelease
