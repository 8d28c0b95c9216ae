"""The inside of a face: the convex hull of its landmarks as a mask.

Convention:
    landmarks are (n, 68, 2) in pixels, (x, y), origin at the centre of the top-left pixel;
    sizes are (h, w). A pixel belongs to the hull if its centre lies in it; pixels that the
    outline touches belong too (OpenCV draws them). What lies outside the image is cut off.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["hull_mask", "hull_masks"]

SUBPIXEL_BITS = 8
FAR = 1e4  # pixels; OpenCV's fixed-point coordinates overflow far beyond any image


def hull_masks(landmarks: NDArray[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """One (h, w) mask for each face, (n, h, w).

    >>> square = np.array([[[2, 2], [5, 2], [5, 6], [2, 6]]])
    >>> hull_masks(square, (10, 10)).sum()
    np.int64(20)
    """
    masks = [hull_mask(points, size) for points in landmarks]
    return np.array(masks, np.bool_).reshape(len(masks), *size)


def hull_mask(points: NDArray[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The hull of one face's points, (h, w)."""
    mask = np.zeros(size, np.uint8)
    hull = cv2.convexHull(np.clip(points, -FAR, FAR).astype(np.float32))
    fixed = np.rint(hull * 2.0**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, 1, lineType=cv2.LINE_8, shift=SUBPIXEL_BITS)
    return mask.astype(np.bool_)
