r"""The Gaussian mechanism of DP-SGD: who is in a batch, how far one photo can move it, the noise.

    p ~ rows, each with probability q;   g = (sum of clipped gradients + s C N(0, I)) / (q n)

Sampling and noise come from a `Secret`, never from a run's seed: the coordinator knows the seed,
and whoever can repeat the draw can subtract the noise.

References:
    | Deep Learning with Differential Privacy (Abadi et al., 2016)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer
from torch import Tensor

from facemorph_core.privacy.secret import Secret


def poisson_batch(
    rows: NDArray[np.int64], rate: float, secret: Secret, *, step: int
) -> NDArray[np.int64]:
    """Each row with probability ``rate``, independently of the others; may well be empty."""
    chances = secret.uniform(int(rows.max(initial=-1)) + 1, "batch", step).numpy()
    return rows[chances[rows] < rate]


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' clipping and accumulation, with the noise of a `Secret`.

    A photo whose gradient is not finite counts as a gradient of 0: one photo can neither spoil
    the sum nor be noticed by spoiling it.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        secret: Secret,
    ) -> None:
        super().__init__(
            optimiser,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
        )
        self.secret, self.steps = secret, 0

    def clip_and_accumulate(self) -> None:
        """Add each photo's gradient, at most ``max_grad_norm`` long, to ``p.summed_grad``."""
        broken = torch.stack([_is_broken(p.grad_sample) for p in self.params]).any(dim=0)
        if bool(broken.any()):
            for parameter in self.params:
                parameter.grad_sample[broken] = 0
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        """``p.grad`` = the sum of clipped gradients plus noise of its standard deviation."""
        deviation = self.noise_multiplier * self.max_grad_norm
        for number, parameter in enumerate(self.params):
            noise = self.secret.normal(tuple(parameter.shape), "noise", self.steps, number)
            total = parameter.summed_grad.double() + deviation * noise.to(parameter.device)
            parameter.grad = total.to(parameter.dtype)
        self.steps += 1


def _is_broken(gradients: Tensor) -> Tensor:
    """Which photos (n,) have a number in their gradients (n, ...) that is not finite.

    The sum of squares tells it in one look; where it alone is too large, clipping gives 0 anyway.
    """
    return ~gradients.flatten(1).square().sum(dim=1).isfinite()
