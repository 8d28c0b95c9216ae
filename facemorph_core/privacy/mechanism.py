r"""The randomness that DP-SGD rests on: who is in a batch, and the noise.

    p ~ rows, each with probability q;   g = (sum of clipped gradients + s C N(0, I)) / (q n)

Both come from 256 bits of the operating system's entropy through Philox, never from a run's
seed: the coordinator knows the seed, and whoever can repeat the draw can subtract the noise.
torch's own generator is not used because it takes only 32 bits of any seed on the CPU, few
enough to try them all. Neither hides the floating-point pattern of the noise (Mironov, 2012).

References:
    | Deep Learning with Differential Privacy (Abadi et al., 2016)
    | Parallel Random Numbers: As Easy as 1, 2, 3 (Salmon et al., 2011): Philox
"""

from __future__ import annotations

import secrets

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer


def secret_generator() -> np.random.Generator:
    """A generator that nobody can repeat."""
    return np.random.Generator(np.random.Philox(secrets.randbits(256)))


def poisson_batch(
    rows: NDArray[np.int64], rate: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Each row with probability ``rate``, independently; may well be empty."""
    return rows[generator.random(len(rows)) < rate]


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' clipping and accumulation, with the noise drawn from a NumPy generator."""

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        draws: np.random.Generator,
    ) -> None:
        super().__init__(
            optimiser,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
        )
        self.draws = draws

    def add_noise(self) -> None:
        """``p.grad`` = the sum of clipped gradients plus noise of its standard deviation."""
        deviation = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            noise = self.draws.standard_normal(parameter.shape, dtype=np.float32)
            parameter.grad = parameter.summed_grad + deviation * torch.from_numpy(noise).to(
                parameter.device
            )
