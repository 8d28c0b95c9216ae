"""Photos with and without transparency, so that they can be added."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["alike", "clear"]

FRINGE = 8
"""Pixels that colours reach into what is transparent."""


def alike(photos: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """With opacity if one of them has it."""
    if all(photo.shape[2] == 3 for photo in photos):
        return list(photos)
    return [_spread(photo) if photo.shape[2] == 4 else clear(photo) for photo in photos]


def clear(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture (h, w, 3 or 4) with opacity, full where it had none."""
    if picture.shape[2] == 4:
        return picture
    return np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])


def _spread(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is transparent takes the colours beside it, so that no edge has a fringe of others."""
    opaque = photo[..., 3:].astype(np.float32) / 255
    near = cv2.blur(np.dstack([opaque * photo[..., :3], opaque]), (2 * FRINGE + 1, 2 * FRINGE + 1))
    beside = np.clip(np.rint(near[..., :3] / np.maximum(near[..., 3:], 1e-3)), 0, 255)
    colours = np.where(photo[..., 3:] > 0, photo[..., :3], beside.astype(np.uint8))
    return np.dstack([colours, photo[..., 3:]])
