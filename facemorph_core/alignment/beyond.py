"""Which places of a picture lie beyond a photo's border, and how far.

Convention:
    x, y are (h, w) float32 places in a picture, in its pixels; ``size`` is (h, w) of the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import FRAME_SIZE
from facemorph_core.alignment.geometry import Affine, invert_affine, scale_of

__all__ = ["all_inside", "distance_beyond", "lacking", "places", "share_lacking", "soft"]

Values = NDArray[np.float32]

SOFTNESS = 6.0
"""Pixels of the canonical frame beyond the border from where on a photo has nothing to show."""


def places(size: tuple[int, int], affine: Affine) -> tuple[Values, Values]:
    """Where ``affine`` sends each pixel of a picture of ``size``, (x, y)."""
    across, down = np.arange(size[1]), np.arange(size[0])[:, None]
    x, y = (row[0] * across + row[1] * down + row[2] for row in affine)
    return x.astype(np.float32), y.astype(np.float32)


def all_inside(x: Values, y: Values, size: tuple[int, int], *, slack: float = 0.0) -> bool:
    """Whether no place lies beyond the picture by more than ``slack`` pixels."""
    h, w = size
    low, high = min(x.min(), y.min()), max(x.max() - (w - 1), y.max() - (h - 1))
    return bool(low >= -slack and high <= slack)


def distance_beyond(x: Values, y: Values, size: tuple[int, int]) -> Values:
    """Pixels from each place to the picture: 0 inside."""
    h, w = size
    aside = np.maximum(np.maximum(-x, x - (w - 1)), 0)
    return np.hypot(aside, np.maximum(np.maximum(-y, y - (h - 1)), 0))


def lacking(to_frame: Affine, photo_size: tuple[int, int], side: int) -> Values:
    """(side, side) in 0..1: 1 where a frame shows what the photo does not have."""
    x, y = places((side, side), invert_affine(to_frame))
    return soft(
        distance_beyond(x, y, photo_size) * np.float32(scale_of(to_frame) * FRAME_SIZE / side)
    )


def share_lacking(to_frame: Affine, photo_size: tuple[int, int], side: int = FRAME_SIZE) -> float:
    """The part of the frame that lies beyond the photo."""
    x, y = places((side, side), invert_affine(to_frame))
    return float((distance_beyond(x, y, photo_size) > 0.5).mean())


def soft(far: Values) -> Values:
    """In 0..1: how little a photo has to show ``far`` pixels of the canonical frame beyond it."""
    ramp = np.clip(far / np.float32(SOFTNESS), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)
