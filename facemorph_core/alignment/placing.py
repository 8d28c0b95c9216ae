"""The 68 landmarks of a face, from where it was seen.

dlib's predictor places them on a crop at one fixed scale: it rounds to whole pixels, which would
cost precision on a small face, and what it finds depends on where the box lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.dlib_files import forest
from facemorph_core.alignment.doubts import turn_of
from facemorph_core.alignment.frame import mean_shape
from facemorph_core.alignment.geometry import (
    Points,
    apply_affine,
    fit_similarity,
    invert_affine,
    scale_of,
)
from facemorph_core.alignment.resample import reflected_crop, resample, resized
from facemorph_core.alignment.search import CLEAR, Box, Sight, around
from facemorph_core.alignment.shape_predictor import predict

__all__ = ["place", "placed", "steadied"]

_PLACE_SIDE = 300  # side of the box on which landmarks are placed; error .60 -> .42 px of the frame
_PLACE_MARGIN = 0.4  # of the box on every side: the chin and jaw may lie outside it
_BOX_IN_FRAME = (62.7, 78.5, 84.6)
"""Centre and side of dlib's box, pixels of the frame: the mean of upright faces of CelebA."""
_NEARBY = ((0, 0, 0), (12, 0, 0), (-12, 0, 0), (0, 12, 0), (0, -12, 0), (0, 0, 14), (0, 0, -14))
"""Right, down and larger, pixels of a placing crop: what a box may lie beside."""


def steadied(image: NDArray[np.uint8], points: Points) -> Points:
    """The landmarks of a turned or doubtful face from where they say that it is, a few times.

    Its box lies less well than that of a clear upright face: points differed by a twentieth of the
    distance of the eyes between turns, and differ by a hundredth like this.
    """
    for nearby in (_NEARBY[:1], _NEARBY):
        to_photo = invert_affine(fit_similarity(points, mean_shape()))
        x, y, side = _BOX_IN_FRAME
        centre = tuple(apply_affine(to_photo, np.array([[x, y]]))[0].tolist())
        there = Sight.square(centre, side * scale_of(to_photo), CLEAR, turn_of(points))
        points = _upright_points(image, there, nearby)
    return points


def place(image: NDArray[np.uint8], box: Box) -> Points:
    """The 68 points of the face in ``box``, from a crop in which the box is _PLACE_SIDE wide."""
    left, top, right, bottom = box
    margin = _PLACE_MARGIN * max(right - left, bottom - top)
    low = np.floor([left - margin, top - margin]).astype(int)
    high = np.ceil([right + margin, bottom + margin]).astype(int)
    crop = reflected_crop(image, *low.tolist(), *high.tolist())
    extent = high - low
    size = np.maximum(1, np.round(extent * _PLACE_SIDE / (right - left))).astype(int)
    step = size / extent
    enlarged = resized(crop, (int(size[0]), int(size[1])))
    corners = (np.array([[left, top], [right, bottom]]) + 0.5 - low) * step - 0.5
    points = predict(enlarged, tuple(np.round(corners).ravel().tolist()), forest())
    return (points + 0.5) / step - 0.5 + low


def placed(image: NDArray[np.uint8], sight: Sight) -> Points:
    """The 68 points of a face, from where it is upright."""
    return _upright_points(image, sight) if sight.turn else place(image, sight.box)


def _upright_points(
    image: NDArray[np.uint8], sight: Sight, nearby: Sequence[tuple[int, int, int]] = _NEARBY[:1]
) -> Points:
    """The mean of the points from the box and from those beside it."""
    extent = round(_PLACE_SIDE * (1 + 2 * _PLACE_MARGIN))
    there = around(sight.centre, sight.turn, _PLACE_SIDE / sight.side, extent)
    crop = resample(image, there, size=(extent, extent))
    low, high = (extent - _PLACE_SIDE) // 2, (extent + _PLACE_SIDE) // 2
    boxes = [
        (low + right - larger, low + down - larger, high + right + larger, high + down + larger)
        for right, down, larger in nearby
    ]
    points = np.mean([predict(crop, box, forest()) for box in boxes], axis=0)
    return apply_affine(invert_affine(there), points)
