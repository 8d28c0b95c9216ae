r"""Exponential running mean of a module's weights.

    mean <- d * mean + (1 - d) * weights,   d = min(decay, (1 + t) / (10 + t))

The ramp over the first updates t = 1, 2, ... keeps the mean from clinging to the weights that
it started from: a federated round may be only fifty steps long.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """The mean of ``module``'s weights; the module itself is not touched until `copy_to`."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.mean = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's present weights in."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in module.named_parameters():
            self.mean[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Put the mean in the place of the module's weights."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.mean[name])

    def load(self, mean: Mapping[str, Tensor], updates: int) -> None:
        """Go on from a saved mean."""
        self.updates = updates
        for name, value in self.mean.items():
            value.copy_(mean[name])
