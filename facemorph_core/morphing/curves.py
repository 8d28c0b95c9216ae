r"""When what changes: curves over a morph, and steps of equal size to the eye.

Convention: a curve maps alpha in [0, 1] to [0, 1], keeps both ends and never goes back.

    linear  the same pace throughout
    smooth  slow at both ends, 3 a^2 - 2 a^3
    early   most of it first, 1 - (1 - a)^2
    late    most of it last, a^2
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.morphing.choices import Curve

__all__ = ["CURVES", "bent", "equal_steps", "visible_difference"]

Alphas = NDArray[np.float64]

CURVES: dict[Curve, Callable[[Alphas], Alphas]] = {
    "linear": lambda alpha: alpha,
    "smooth": lambda alpha: alpha * alpha * (3 - 2 * alpha),
    "early": lambda alpha: 1 - (1 - alpha) ** 2,
    "late": lambda alpha: alpha * alpha,
}

SEEN_SIDE = 64
"""Pixels a side at which two frames are compared."""
_SCALES = 3
_LEAST_CONTRAST = 8.0  # levels of 255


def bent(alphas: Alphas, curve: Curve) -> Alphas:
    """``alphas`` (n,) along ``curve``."""
    return np.asarray(CURVES[curve](alphas), np.float64)


def equal_steps(alphas: Alphas, frames: NDArray[np.uint8], count: int) -> Alphas:
    """``count`` alphas between which the frames change by equal amounts to the eye.

    ``frames`` (n, S, S, 3) were made at ``alphas`` (n,); between them the change is taken as even.
    """
    steps = [visible_difference(*pair) for pair in pairwise(frames)]
    way = np.concatenate([[0.0], np.cumsum(steps)])
    if way[-1] == 0:  # one picture throughout
        return np.linspace(alphas[0], alphas[-1], count)
    found = np.interp(np.linspace(0, way[-1], count), way, alphas)
    found[[0, -1]] = alphas[[0, -1]]
    return np.asarray(found, np.float64)


def visible_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    r"""How different two pictures look: a light stand-in for LPIPS, without a network.

    Edges and blobs of three sizes (differences of Gaussians), each divided by the contrast around
    it in both pictures, so that a change where nothing else is weighs more than one in texture.
    """
    total = 0.0
    first, second = (_shrunk(picture) for picture in (one, other))
    for _ in range(_SCALES):
        one_band, other_band = first - _blurred(first), second - _blurred(second)
        contrast = np.sqrt(_blurred(one_band**2 + other_band**2)) + _LEAST_CONTRAST
        total += float((((one_band - other_band) / contrast) ** 2).mean())
        first, second = _halved(first), _halved(second)
    return float(np.sqrt(total / _SCALES))


def _shrunk(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    side = (SEEN_SIDE, SEEN_SIDE)
    return np.asarray(cv2.resize(picture, side, interpolation=cv2.INTER_AREA), np.float32)


def _blurred(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.float32)


def _halved(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.pyrDown(picture), np.float32)
