"""Frames at another size, and the part of them that changed.

A frame is (h, w, 3) uint8 RGB or (h, w, 4) RGBA.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Frame", "changed", "fitted", "side_lengths"]

Frame = NDArray[np.uint8]


def side_lengths(height: int, width: int, size: int | None) -> tuple[int, int]:
    """(h, w) with ``size`` pixels on the longer side; None leaves them as they are."""
    if size is None or max(height, width) == size:
        return height, width
    factor = size / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def fitted(frame: Frame, size: int | None) -> Frame:
    """With ``size`` pixels on the longer side (Lanczos); None leaves it as it is."""
    h, w = side_lengths(frame.shape[0], frame.shape[1], size)
    if (h, w) == frame.shape[:2]:
        return frame
    return np.asarray(Image.fromarray(frame).resize((w, h), Image.Resampling.LANCZOS))


def changed(before: NDArray[np.uint8] | None, now: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) outside which a picture is as the one before.

    It has a pixel where nothing changed: a frame is a frame.
    """
    height, width = now.shape[:2]
    if before is None:
        return 0, 0, width, height
    differs = (before != now).reshape(height, width, -1).any(axis=2)
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if len(rows) == 0:
        return 0, 0, 1, 1
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
