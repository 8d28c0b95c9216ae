r"""The running mean of the global weights over rounds: steadier than any of them.

    mean <- d * mean + (1 - d) * weights,   d = min(decay, (1 + t) / (10 + t))

Sites train on from the weights themselves; the mean is what is scored and released. The ramp over
the first rounds t = 1, 2, ... keeps it from clinging to the start.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from facemorph_core.learning.federated.codec import Arrays


class WeightAverage:
    """The mean of the weights of ``rounds`` rounds; ``mean`` is empty before the first."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.rounds = 0
        self.mean: Arrays = {}

    def update(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Take in the weights that a round brought."""
        self.rounds += 1
        if not self.mean:
            self.mean = {name: value.copy() for name, value in weights.items()}
            return
        decay = np.float32(min(self.decay, (1 + self.rounds) / (10 + self.rounds)))
        for name, value in weights.items():
            self.mean[name] += (1 - decay) * (value - self.mean[name])
