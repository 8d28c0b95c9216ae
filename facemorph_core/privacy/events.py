"""Facts about what was released. What they cost is computed elsewhere (`accountant`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GaussianSteps:
    """``steps`` DP-SGD steps on a Poisson sample at rate ``sample_rate``, equal noise.

    The unit is one photo: neighbouring shards differ by adding or removing one photo. A person
    with several photos is not covered as a unit. Noise has standard deviation
    ``noise_multiplier`` times the bound on one photo's gradient.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not (self.noise_multiplier > 0 and 0 < self.sample_rate <= 1 and self.steps >= 0):
            raise ValueError(f"not a possible release: {self}")
