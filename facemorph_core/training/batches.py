"""From a shard's pixels to the batches of an epoch. uint8 (N, S, S, 3) outside, floats inside."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from facemorph_core.errors import ModelError, ShardError


@runtime_checkable
class Faces(Protocol):
    """The part of a shard that training reads."""

    @property
    def size(self) -> int:
        """Side of its images, pixels."""

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of a split."""

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of these rows, (n, S, S, 3)."""


def train_rows(faces: Faces, image_size: int) -> NDArray[np.int64]:
    """Rows to train on, or why there is nothing to train on."""
    if faces.size != image_size:
        raise ModelError(
            f"the shard holds faces of {faces.size} px, the model wants {image_size} px",
            hint="set model.image_size to the shard's size, or prepare the shard again",
        )
    rows = faces.rows("train")
    if len(rows) == 0:
        raise ShardError(
            "the shard has no face in its 'train' split",
            hint="look at the skipped photos in its shard.json, or lower data.site_val",
        )
    return rows


def epoch_batches(
    rows: NDArray[np.int64], size: int, generator: torch.Generator
) -> list[NDArray[np.int64]]:
    """The rows in a fresh order, in batches of ``size``; the last one may be smaller."""
    order = rows[torch.randperm(len(rows), generator=generator).numpy()]
    return [order[start : start + size] for start in range(0, len(order), size)]


def to_images(pixels: NDArray[np.uint8], device: torch.device) -> Float[Tensor, "b 3 s s"]:
    """uint8 (B, S, S, 3) -> floats in [-1, 1], channels last in memory."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
    return images.float().div_(127.5).sub_(1.0)


def mirrored(
    images: Float[Tensor, "b 3 s s"], generator: torch.Generator
) -> Float[Tensor, "b 3 s s"]:
    """Each image left-right mirrored with probability one half."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flip.to(images.device)[:, None, None, None], images.flip(3), images)
