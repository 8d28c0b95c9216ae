r"""Similarity transforms between landmark sets. Pure NumPy, no images, no detectors.

Convention:
    points are (N, 2) float64 in pixels, ordered (x, y), origin at the centre of the
    top-left pixel, y down; matrices are (2, 3) and map source -> destination.

References:
    | Least-squares estimation of transformation parameters between two point patterns
    | (Umeyama, 1991)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Affine",
    "Points",
    "apply_affine",
    "compose_affine",
    "fit_similarity",
    "invert_affine",
    "rescaling",
    "scale_of",
    "similarity",
]

Points = NDArray[np.float64]
Affine = NDArray[np.float64]


def similarity(angle: float, scale: float, shift: tuple[float, float]) -> Affine:
    """Rotation by ``angle`` (radians, from x towards y), then ``scale``, then ``shift`` (x, y)."""
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[a, -b, shift[0]], [b, a, shift[1]]], dtype=np.float64)


def fit_similarity(source: Points, target: Points) -> Affine:
    """Least-squares rotation + uniform scale + shift, never a reflection (Umeyama, 1991).

    Raises:
        ValueError: fewer than two points, or all points of a set coincide.

    Examples:
        >>> corners = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0]])
        >>> fit_similarity(corners, 3 * corners + [5, 7]).round(6) + 0  # no -0
        array([[3., 0., 5.],
               [0., 3., 7.]])
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise ValueError(f"two (N, 2) point sets are needed, got {source.shape}, {target.shape}")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    s, t = source - source_mean, target - target_mean
    spread = (s**2).sum()
    if _coincide(s, source) or _coincide(t, target):
        raise ValueError("the points coincide: no rotation or scale follows from them")
    # In the plane the fit has a closed form: (a, b) = scale * (cos, sin), a proper rotation always.
    a = (s * t).sum() / spread
    b = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / spread
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def _coincide(centred: Points, points: Points) -> bool:
    """Whether the spread is nothing but rounding."""
    return bool(np.abs(centred).max() <= 1e-12 * max(1.0, float(np.abs(points).max())))


def apply_affine(matrix: Affine, points: Points) -> Points:
    """The points mapped by ``matrix``: (N, 2) -> (N, 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def invert_affine(matrix: Affine) -> Affine:
    """The way back: destination -> source."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def compose_affine(second: Affine, first: Affine) -> Affine:
    """One matrix for ``first``, then ``second``."""
    linear = second[:, :2] @ first[:, :2]
    return np.column_stack([linear, second[:, :2] @ first[:, 2] + second[:, 2]])


def rescaling(factor: float) -> Affine:
    """Pixels of an image -> pixels of the image resized by ``factor``; their edges coincide.

    The centre of the top-left pixel is the origin, so resizing also shifts by half a pixel's
    growth.
    """
    return similarity(0.0, factor, ((factor - 1) / 2, (factor - 1) / 2))


def scale_of(matrix: Affine) -> float:
    """How many destination pixels a source pixel becomes along one side (geometric mean)."""
    return math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
