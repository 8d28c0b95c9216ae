r"""The Gaussian mechanism of DP-SGD: who is in a batch, how far one photo can move it, the noise.

    p ~ rows, each with probability q;   g = (sum_p clip(g_p, C) + s C N(0, I)) / (q n)

Sampling and noise come from a `Secret`, never from a run's seed: the coordinator knows the seed,
and whoever can repeat the draw can subtract the noise. Lengths and sums are in double precision,
so that no rounding of single precision lets a photo move the sum by more than C.

References:
    | Deep Learning with Differential Privacy (Abadi et al., 2016)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facemorph_core.learning.privacy.secret import Secret


def poisson_batch(
    rows: NDArray[np.int64], rate: float, secret: Secret, *, step: int
) -> NDArray[np.int64]:
    """Each row with probability ``rate``, independently of the others; may well be empty."""
    chances = secret.uniform(int(rows.max(initial=-1)) + 1, "batch", step).numpy()
    return rows[chances[rows] < rate]


class ClippedSum:
    """The sum of photos' gradients, each at most ``bound`` long."""

    def __init__(self, like: Sequence[Tensor], bound: float) -> None:
        self.bound = bound
        self.total = [torch.zeros_like(each, dtype=torch.float64) for each in like]

    def add(self, gradients: Sequence[Tensor]) -> None:
        """Take in one photo's gradient, a tensor for each parameter.

        One that is not finite counts as 0: a photo can neither spoil the sum nor be noticed by
        spoiling it.
        """
        length = length_of(gradients)
        if not np.isfinite(length):
            return
        scale = min(1.0, self.bound / length) if length else 1.0
        for total, gradient in zip(self.total, gradients, strict=True):
            total.add_(gradient, alpha=scale)

    def noised(self, noise_multiplier: float, secret: Secret, *, step: int) -> list[Tensor]:
        """The sum with noise of standard deviation ``noise_multiplier * bound``, float64."""
        deviation = noise_multiplier * self.bound
        return [
            total + deviation * secret.normal(tuple(total.shape), "noise", step, number).to(total)
            for number, total in enumerate(self.total)
        ]


def length_of(gradients: Sequence[Tensor]) -> float:
    """The Euclidean length of all of a photo's gradient."""
    lengths = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in gradients]
    return float(torch.linalg.vector_norm(torch.stack(lengths)))
