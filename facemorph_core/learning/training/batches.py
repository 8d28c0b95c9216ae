"""From a shard's faces to what a training step reads.

Outside are uint8 pixels (N, S, S, 3) with landmarks (N, 68, 2) in the frame; inside are floats in
[-1, 1], as the model's geometry shows them to the networks, with the weight of each pixel.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ShardError
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.learning.losses.identity import cut
from facemorph_core.metrics.hull import hull_masks
from facemorph_core.shards.shard import check_size


@runtime_checkable
class Faces(Protocol):
    """The part of a shard that training reads.

    Examples:
        >>> class Grey:
        ...     size = 128
        ...     def rows(self, split):
        ...         return np.arange(4) if split == "train" else np.arange(4, 5)
        ...     def images(self, rows):
        ...         return np.full((len(rows), 128, 128, 3), 128, np.uint8)
        ...     def landmarks(self, rows):
        ...         return np.zeros((len(rows), 68, 2), np.float32)
        >>> isinstance(Grey(), Faces)
        True
    """

    @property
    def size(self) -> int:
        """Side of its images, pixels."""

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of a split."""

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of these rows, (n, S, S, 3)."""

    def landmarks(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Landmarks of these rows in the frame, (n, 68, 2)."""


class Batch(NamedTuple):
    """Images in [-1, 1] and what an error at each of their pixels weighs, 1 on average."""

    images: Float[Tensor, "b 3 s s"]
    weights: Float[Tensor, "b 1 s s"] | float
    places: Float[Tensor, "k 112 112 2"] | None = None
    """What the identity net looks at in the first k images, (x, y) pixels; None: it does not."""


def train_rows(faces: Faces, image_size: int) -> NDArray[np.int64]:
    """Rows to train on, or why there is nothing to train on."""
    check_size(faces.size, image_size)
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


def load_batch(
    faces: Faces,
    rows: NDArray[np.int64],
    config: RunConfig,
    device: torch.device,
    *,
    watched: int | None = None,
) -> Batch:
    """These rows as the networks see them.

    An error weighs as much as its pixel covers of the frame, and `LossConfig.face` more inside
    the face. With an identity term, its net looks at the first ``watched`` images or at all.
    """
    geometry, face = geometry_of(config.model.geometry, config.model.image_size), config.loss.face
    seen = geometry.see(faces.images(rows), faces.landmarks(rows))
    images, places = to_images(seen.pixels, device), None
    if config.loss.identity:
        looked_at = seen.first(len(rows) if watched is None else watched)
        found = looked_at.places(cut(geometry.size))
        places = torch.from_numpy(found).to(device)
    areas = seen.areas
    if not face and (areas == 1).all():
        return Batch(images, 1.0, places)
    inside = hull_masks(seen.landmarks, seen.pixels.shape[1:3]) if face else 0.0
    weights = areas * (1 + face * np.asarray(inside, np.float32))
    weights /= weights.mean(axis=(1, 2), keepdims=True)
    return Batch(images, torch.from_numpy(weights).to(device)[:, None], places)
