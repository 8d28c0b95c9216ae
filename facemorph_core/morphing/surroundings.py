r"""Whose hair, clothes and background are seen: at each place one face's, not two half transparent.

On the face a morph fades, for there the mesh lays eyes on eyes and lips on lips. Around it nothing
lies on anything: a fade shows two hairlines, two collars and two walls through each other. So
every place there is given by one face, but for the moment in which it changes over:

.. math:: v_i \propto (w_i \, e^{p_i})^{1 + k o}

with the faces' weights :math:`w` and :math:`o` from 0 on the face to 1 around it. The preferences p
let what is near the face change over at another time than what is far from it, so that the change
runs through the picture instead of coming all at once: the face with the more detailed
surroundings has the places near it longest, where hair is, and the other one those at the border.
All weight on one face gives that face everywhere: no special case.

Convention:
    maps are (s, s) or (P, s, s) float32, s = MAP_SIDE, over the mean shape's frame.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import FRAME_SIZE, mean_shape
from facemorph_core.metrics.hull import hull_mask
from facemorph_core.morphing.detail import DECIDED, MAP_SIDE, Agreement, blurred, normalised

__all__ = ["around", "far", "preferences", "shares"]

Values = NDArray[np.float32]

SOFTNESS = 4.0 / 128
"""Of the passage from the face to what surrounds it, in sides of the frame."""
SPREAD = 1.2
"""Between the places that change over first and last, in log odds of the weights over two."""


def preferences(found: Agreement) -> Values:
    """Each face's p (P, s, s): how much longer than its weight says each face keeps each place."""
    return _ranks(found)[:, None, None] * SPREAD * _nearness()


def shares(weights: NDArray[np.float64], preferred: Values) -> Values:
    """Each face's v (P, s, s): how much of each place each face gives, 1 in sum."""
    return _decided(weights, around() * preferred, around())


def far(weights: NDArray[np.float64], preferred: Values) -> Values:
    """Each face's v (P,) at the border of the frame and beyond."""
    return _decided(weights, preferred[:, :1, :1], np.ones((1, 1), np.float32))[:, 0, 0]


@cache
def around() -> Values:
    """The map o (s, s): 0 on the face, 1 around it."""
    face = hull_mask(mean_shape(), (FRAME_SIZE, FRAME_SIZE)).astype(np.float32)
    small = cv2.resize(
        blurred(1 - face, SOFTNESS), (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA
    )
    return np.asarray(small, np.float32)


@cache
def _nearness() -> Values:
    """(s, s): ranks of the places around the face from its edge, 0.5, to the corners, -0.5."""
    face = hull_mask(mean_shape(), (FRAME_SIZE, FRAME_SIZE))
    away = cv2.distanceTransform((~face).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    away = _small(np.asarray(away, np.float32))
    outside = np.sort(away[away > 0])
    return (0.5 - np.interp(away, outside, np.linspace(0, 1, len(outside)))).astype(np.float32)


def _small(picture: Values) -> Values:
    shrunk = cv2.resize(picture, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.float32)


def _ranks(found: Agreement) -> Values:
    """(P,) from -1 to 1: which face has more detail around it."""
    strength = (around() * np.log(found.energies)).sum(axis=(1, 2))
    count = len(strength)
    order = strength.argsort(kind="stable").argsort()
    return (2 * order / max(count - 1, 1) - (count > 1)).astype(np.float32)


def _decided(weights: NDArray[np.float64], preferred: Values, where: Values) -> Values:
    with np.errstate(divide="ignore"):
        odds = np.log(weights).astype(np.float32)[:, None, None] + preferred
    return normalised((1 + DECIDED * where) * odds)
