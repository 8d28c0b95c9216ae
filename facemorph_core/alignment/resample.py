"""One way to map an image through an affine matrix: low-pass first, reflected border, exact.

A plain warp looks at a few source pixels per result pixel and aliases when it shrinks. Here the
result is computed on a grid that is no coarser than the source and averaged down in whole blocks;
strong shrinking is averaged in whole blocks before that. Beyond its border the source is mirrored
about the edge pixel (as often as needed, whatever the size of the image), or blurred.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.continuation import blurred_beyond
from facemorph_core.alignment.geometry import (
    Affine,
    apply_affine,
    compose_affine,
    invert_affine,
    rescaling,
    scale_of,
    similarity,
)

__all__ = ["Beyond", "reflected_crop", "resample", "resized"]

Beyond = Literal["mirrored", "blurred"]
"""How a picture goes on beyond its border."""

_MOST_OVERSAMPLING = 4
_MARGIN = 4  # pixels that interpolation reads around a point


def resample(
    image: NDArray[np.uint8],
    matrix: Affine,
    *,
    size: tuple[int, int],
    beyond: Beyond = "mirrored",
) -> NDArray[np.uint8]:
    """The (h, w, 3) picture of ``image`` under ``matrix`` (image -> result), ``size`` = (h, w)."""
    shrink = 1 / scale_of(matrix)
    block = max(1, math.ceil(shrink / _MOST_OVERSAMPLING - 1e-6))
    left, top, right, bottom = _bounds(matrix, size, margin=_MARGIN * block)
    width, height = _multiple(right - left, block), _multiple(bottom - top, block)
    source = reflected_crop(image, left, top, left + width, top + height)
    if block > 1:
        source = _averaged(source, block)
    to_image = compose_affine(
        similarity(0.0, 1.0, (float(left), float(top))), rescaling(float(block))
    )
    fine = max(1, math.ceil(shrink / block - 1e-6))
    to_result = compose_affine(rescaling(float(fine)), compose_affine(matrix, to_image))
    warped = cv2.warpAffine(
        source,
        invert_affine(to_result),
        (size[1] * fine, size[0] * fine),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    result = np.asarray(warped, dtype=np.uint8)
    if fine > 1:
        result = _averaged(result, fine)
    return blurred_beyond(result, image, matrix) if beyond == "blurred" else result


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture in ``size`` (w, h): averaged where it shrinks, else linear."""
    height, width = image.shape[:2]
    if size == (width, height):
        return image
    kind = cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=kind), dtype=np.uint8)


def reflected_crop(
    image: NDArray[np.uint8], left: int, top: int, right: int, bottom: int
) -> NDArray[np.uint8]:
    """``image[top:bottom, left:right]`` where the bounds may lie outside: reflected there."""
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return np.ascontiguousarray(image[top:bottom, left:right])
    rows, columns = _reflected(top, bottom, height), _reflected(left, right, width)
    return np.ascontiguousarray(image[rows[:, None], columns[None, :]])


def _reflected(start: int, stop: int, length: int) -> NDArray[np.intp]:
    """Indices start..stop-1 of a line that is mirrored about its first and last pixel for ever."""
    period = max(1, 2 * (length - 1))
    position = np.mod(np.arange(start, stop), period)
    return np.minimum(position, period - position) if length > 1 else position * 0


def _bounds(matrix: Affine, size: tuple[int, int], *, margin: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of what the result shows, in whole source pixels."""
    h, w = size
    corners = np.array([[-0.5, -0.5], [w - 0.5, -0.5], [-0.5, h - 0.5], [w - 0.5, h - 0.5]])
    there = apply_affine(invert_affine(matrix), corners)
    low, high = np.floor(there.min(axis=0)) - margin, np.ceil(there.max(axis=0)) + margin
    return int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 1


def _multiple(length: int, block: int) -> int:
    return math.ceil(length / block) * block


def _averaged(image: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """Means over block x block pixels; the sides are multiples of ``block``."""
    h, w = image.shape[:2]
    shrunk = cv2.resize(image, (w // block, h // block), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)
