r"""What is changed about faces while they are learned from, so that few photos teach more.

Images are (B, 3, S, S) in [-1, 1], each pixel with its weight; see `training.batches`.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.schema import TrainingConfig
from facemorph_core.learning.training.batches import Batch

NEAREST, FARTHEST = 1.0, 1.9
"""Where the surroundings may begin, in half axes of the face."""
HARDEST, SOFTEST = 0.05, 0.3
"""Width of the transition, in the same unit."""
FOREHEAD = 0.8
"""The landmarks end at the brows: the face is that much less high than its outline makes it."""


def augmented(batch: Batch, training: TrainingConfig, generator: torch.Generator) -> Batch:
    """Mirrored, in other surroundings, in other light, as far as ``training`` asks for it."""
    if training.mirror:
        batch = mirrored(batch, generator)
    if training.surroundings:
        batch = in_other_surroundings(batch, training.surroundings, generator)
    if training.light:
        batch = batch._replace(images=in_other_light(batch.images, training.light, generator))
    return batch


def mirrored(batch: Batch, generator: torch.Generator) -> Batch:
    """Each image left-right mirrored with probability one half, what belongs to it with it.

    The identity net sees the same face either way.
    """
    images, weights, places = batch
    chosen = torch.rand(len(images), generator=generator) < 0.5
    flip = chosen.nonzero()[:, 0].to(images.device)
    images = _with(images, flip, images[flip].flip(3))
    if isinstance(weights, Tensor):
        weights = _with(weights, flip, weights[flip].flip(3))
    if places is not None:
        x, y = places.unbind(-1)
        turned = chosen[: len(places), None, None].to(images.device)
        x = torch.where(turned, images.shape[-1] - 1 - x, x)
        places = torch.stack([x, y], dim=-1)
    return Batch(images, weights, places)


def _with(batch: Tensor, places: Tensor, those: Tensor) -> Tensor:
    """``batch`` with ``those`` at ``places``, in the same order in memory."""
    changed = batch.clone()
    changed[places] = those
    return changed


def in_other_surroundings(batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """With probability ``share`` each face gets the surroundings of one of the batch.

    Around an ellipse that is wider or narrower each time, hair and background fade into those of
    the other picture, their weights with them. Face and surroundings then occur in far more
    combinations than there are photos.
    """
    images, weights, _ = batch
    count, device = len(images), images.device

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    others = torch.randperm(count, generator=generator).to(device)
    begin, width = drawn(NEAREST, FARTHEST), drawn(HARDEST, SOFTEST)
    theirs = torch.sigmoid((_from_the_face(images.shape[-1]) - begin) / width)
    theirs = (theirs * (torch.rand(count, 1, 1, 1, generator=generator) < share)).to(device)
    images = torch.lerp(images, images[others], theirs)
    if isinstance(weights, Tensor):
        weights = torch.lerp(weights, weights[others], theirs)
    return batch._replace(images=images, weights=weights)


def in_other_light(
    images: Float[Tensor, "b 3 s s"], most: float, generator: torch.Generator
) -> Float[Tensor, "b 3 s s"]:
    """Each image brighter or darker, in contrast and in all, and a little in other colours.

    Both change by up to ``most`` of the range above black, the balance of the colours by a third
    of it; what leaves [-1, 1] is cut.
    """

    def drawn(channels: int, most: float) -> Tensor:
        values = torch.rand(len(images), channels, 1, 1, generator=generator)
        return most * (2 * values - 1).to(images.device)

    gain = 1 + drawn(1, most) + drawn(3, most / 3)
    return ((images + 1) * gain - 1 + drawn(1, most)).clamp(-1, 1)


@lru_cache(maxsize=8)
def _from_the_face(size: int) -> Float[Tensor, "1 s s"]:
    """How far each pixel is from the middle of the mean face, in half axes of its outline."""
    shape = torch.from_numpy(mean_shape(size)).float()
    x, y = shape.mean(dim=0)
    half_width, half_height = (shape.amax(dim=0) - shape.amin(dim=0)) / 2
    places = torch.arange(size, dtype=torch.float32)
    across = (places[None, :] - x) / half_width
    down = (places[:, None] - y) / half_height * FOREHEAD
    return (across.square() + down.square()).sqrt()[None]
