"""Random numbers for a batch of images: one stream for all of them, or one for each image.

Under differential privacy what is drawn for an image may not depend on which other images are
in its batch: taking one away would change all that come after it. Each image has a stream of its
own there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Draws = torch.Generator | Sequence[torch.Generator]
"""The generator of a batch, or as many as it has images."""


def uniform(draws: Draws, count: int, *shape: int) -> Float[Tensor, "b ..."]:
    """(``count``, *``shape``) numbers from [0, 1), on the CPU or where the generator is."""
    if isinstance(draws, torch.Generator):
        return torch.rand(count, *shape, generator=draws, device=draws.device)
    return torch.stack([torch.rand(shape, generator=draw) for draw in _of_each(draws, count)])


def normal(draws: Draws, count: int, *shape: int) -> Float[Tensor, "b ..."]:
    """(``count``, *``shape``) numbers from N(0, 1), like `uniform`."""
    if isinstance(draws, torch.Generator):
        return torch.randn(count, *shape, generator=draws, device=draws.device)
    return torch.stack([torch.randn(shape, generator=draw) for draw in _of_each(draws, count)])


def _of_each(draws: Sequence[torch.Generator], count: int) -> Sequence[torch.Generator]:
    assert len(draws) == count, f"{len(draws)} streams for {count} images"
    return draws
