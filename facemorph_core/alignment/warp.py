r"""The smooth warp between the canonical frame and the same face in the mean shape.

A picture in the mean shape ("texture") holds every face's eyes, lips and jaw at the same pixels.
The pixel x of the texture lies in the frame at x + d(x), where d is a thin-plate spline through
the displacements p - m of the landmarks, held at zero on anchors around the frame, so that
nothing leaves the picture and nothing is torn:

.. math:: d(x) = \sum_j U(|x - c_j|) w_j + A x + b, \qquad U(r) = r^2 \log r^2

The weights are linear in the displacements, so d is one fixed matrix times them. STIFFNESS lets
the spline pass near the landmarks instead of through them, which keeps strong turns of the head
smooth; where the warp would still fold, the whole displacement is scaled down until it does not.

Convention:
    pictures are (n, S, S, 3) uint8; shapes are (n, 68, 2) in pixels of the frame; displacements
    are (n, S, S, 2) float32 in pixels, (x, y).

References:
    | Principal Warps: Thin-Plate Splines and the Decomposition of Deformations (Bookstein, 1989)
    | Spline Models for Observational Data (Wahba, 1990): the smoothing spline
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import FRAME_SIZE, NUM_LANDMARKS, mean_shape

__all__ = ["areas", "displacements", "found_in_texture", "to_frame", "to_mean_shape"]

STIFFNESS = 100.0
"""Of the smoothing spline, for a frame of FRAME_SIZE pixels."""
ANCHORS = 9
"""Points held still on each side of the frame."""
LEAST_AREA = 0.1
"""What a pixel of the texture covers of the frame at least, in pixels: above 0, so no fold."""
INVERSION_STEPS = 12
COARSE = 3
"""Pixels between the points where the warp's area is looked at: it is smooth."""

Displacements = NDArray[np.float32]
Pictures = NDArray[np.uint8]


def displacements(shapes: NDArray[Any], size: int = FRAME_SIZE) -> Displacements:
    """Where the pixels of the texture lie in the frame, minus themselves: (n, S, S, 2)."""
    away = (np.asarray(shapes, np.float32) - mean_shape(size).astype(np.float32)).transpose(0, 2, 1)
    away = away * _unfolding(_spread(away, _thinned_operator(size)))[:, None, None]
    return _spread(away, _operator(size))


def areas(fields: Displacements) -> NDArray[np.float32]:
    """The frame's pixels that each pixel of the texture covers, (n, S, S): det(I + grad d)."""
    size = fields.shape[1]
    trace, determinant = _jacobian(fields[:, ::COARSE, ::COARSE])
    coarse = 1 + trace + determinant
    return np.stack([cv2.resize(area, (size, size)) for area in coarse]).reshape(-1, size, size)


def to_mean_shape(frames: Pictures, fields: Displacements) -> Pictures:
    """The textures of faces in the frame."""
    x, y = _grid(frames.shape[1])
    return np.stack(
        [
            _sampled(frame, x + field[..., 0], y + field[..., 1])
            for frame, field in zip(frames, fields, strict=True)
        ]
    )


def to_frame(textures: Pictures, fields: Displacements) -> Pictures:
    """The faces of textures, back in the frame: the inverse of `to_mean_shape`."""
    return np.stack(
        [
            _sampled(texture, *_inverted(field, *_grid(len(field))))
            for texture, field in zip(textures, fields, strict=True)
        ]
    )


def found_in_texture(points: NDArray[Any], fields: Displacements) -> NDArray[np.float32]:
    """Where in each texture the points (h, w, 2) of the frame lie: (n, h, w, 2), (x, y)."""
    x, y = np.moveaxis(np.asarray(points, np.float32), -1, 0)
    return np.stack([np.stack(_inverted(field, x, y), axis=-1) for field in fields])


def _sampled(picture: Pictures, x: NDArray[np.float32], y: NDArray[np.float32]) -> Pictures:
    found = cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(found, np.uint8)


def _inverted(
    field: Displacements, x: NDArray[np.float32], y: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where the places (x, y) of the frame lie in the texture: the u with u + d(u) = (x, y).

    By fixed-point iteration, which converges as long as the warp stretches less than twofold, and
    stays near where it does not.
    """
    u, v, field = x, y, np.ascontiguousarray(field)
    for _ in range(INVERSION_STEPS):
        moved = cv2.remap(field, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        u, v = x - moved[..., 0], y - moved[..., 1]
    return u, v


def _jacobian(thinned: Displacements) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Trace and determinant of grad d at the middles of cells, from every COARSE-th pixel's d."""
    down, right = np.diff(thinned, axis=1) / COARSE, np.diff(thinned, axis=2) / COARSE
    dx_dy, dy_dy = np.moveaxis(0.5 * (down[:, :, 1:] + down[:, :, :-1]), 3, 0)
    dx_dx, dy_dx = np.moveaxis(0.5 * (right[:, 1:] + right[:, :-1]), 3, 0)
    return dx_dx + dy_dy, dx_dx * dy_dy - dx_dy * dy_dx


def _unfolding(thinned: Displacements) -> NDArray[np.float32]:
    """(n,) the largest t <= 1 for which the warp with t d folds nowhere.

    With t d the area is 1 + t trace + t^2 determinant: the first t at which it falls to
    LEAST_AREA is a root of that.
    """
    trace, determinant = _jacobian(thinned)
    drop = 1 - LEAST_AREA
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(trace**2 - 4 * determinant * drop)
        # the form without cancellation: 2c / (-b + sqrt(b^2 - 4ac)), the smallest positive root
        first = np.where(root - trace > 0, 2 * drop / (root - trace), np.inf)
    first = np.where(np.isnan(first), np.inf, first)
    return np.minimum(first.min(axis=(1, 2)), 1).astype(np.float32)


@cache
def _grid(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    along = np.arange(size, dtype=np.float32)
    x, y = np.meshgrid(along, along)
    return x, y


@cache
def _operator(size: int) -> NDArray[np.float32]:
    """(68, S*S): the displacement of each landmark, in pixels -> that of every pixel."""
    centres = np.concatenate([mean_shape(size), _anchors(size)])
    count = len(centres)
    stiffness = np.zeros(count)
    stiffness[:NUM_LANDMARKS] = STIFFNESS * (size / FRAME_SIZE) ** 2
    ones = np.ones((count, 1))
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(centres, centres) + np.diag(stiffness)
    system[:count, count:] = np.hstack([ones, centres])
    system[count:, :count] = system[:count, count:].T
    weights = np.linalg.inv(system)[:, :NUM_LANDMARKS]
    x, y = _grid(size)
    pixels = np.column_stack([x.reshape(-1), y.reshape(-1)]).astype(np.float64)
    values = np.hstack([_kernel(pixels, centres), np.ones((len(pixels), 1)), pixels])
    return np.ascontiguousarray((values @ weights).T, dtype=np.float32)


@cache
def _thinned_operator(size: int) -> NDArray[np.float32]:
    """The part of `_operator` for every COARSE-th pixel."""
    whole = _operator(size).reshape(NUM_LANDMARKS, size, size)
    return np.ascontiguousarray(whole[:, ::COARSE, ::COARSE]).reshape(NUM_LANDMARKS, -1)


def _spread(away: NDArray[np.float32], operator: NDArray[np.float32]) -> Displacements:
    """(n, 2, 68) of landmarks -> (n, H, H, 2) of a square of pixels; in memory x and y apart."""
    along = away.reshape(-1, NUM_LANDMARKS) @ operator
    side = math.isqrt(operator.shape[1])
    return along.reshape(-1, 2, side, side).transpose(0, 2, 3, 1)


def _kernel(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = np.subtract.outer(points[:, 0], centres[:, 0]) ** 2
    squares += np.subtract.outer(points[:, 1], centres[:, 1]) ** 2
    return np.asarray(squares * np.log(np.maximum(squares, 1e-300)), np.float64)


def _anchors(size: int) -> NDArray[np.float64]:
    """Points around the frame, ANCHORS on each side, corners once."""
    along = np.linspace(0, size - 1, ANCHORS)
    low, high = np.full(ANCHORS, 0.0), np.full(ANCHORS, size - 1.0)
    sides = [(along, low), (along, high), (low, along), (high, along)]
    points = np.concatenate([np.column_stack(side) for side in sides])
    return np.unique(points, axis=0)
