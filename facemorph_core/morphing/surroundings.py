r"""Whose hair, clothes and background are seen: one face's, not two half transparent.

On the face a morph fades, for there the mesh lays eyes on eyes and lips on lips. Around it nothing
lies on anything: a fade shows two hairlines, two collars and two walls through each other. So one
face gives the surroundings, but for the moment in which they change over:

.. math:: v_i \propto (w_i \, e^{o p_i})^{1 + k o}

with the faces' weights :math:`w` and :math:`o` from 0 on the face to 1 around it. At equal weights
the face with the most detail around it gives them, by its preference p: a morph changes over once,
before its middle or after it. A photo that ends close to its face gives them no longer than it has
to. The preferences of many faces lie as near to each other as there are
faces, and k is as much steeper: it is one face's surroundings then too. All weight on one face
gives that face everywhere: no special case.

Convention:
    maps are (s, s) or (P, s, s) float32, s = MAP_SIDE, over the mean shape's frame.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment import mesh
from facemorph_core.alignment.frame import FRAME_SIZE, mean_shape
from facemorph_core.metrics.hull import hull_mask
from facemorph_core.morphing.detail import DECIDED, MAP_SIDE, Agreement, blurred, normalised

__all__ = ["around", "beyond", "decided", "part_lacking", "preferences", "shares"]

Values = NDArray[np.float32]

SOFTNESS = 4.0 / 128
"""Of the passage from the face to what surrounds it, in sides of the frame."""
HELD = 0.35
"""How far from its middle a morph's surroundings change over, in log odds of the weights over two:
at alpha 0.33 or 0.67."""
LOST, MUCH = 2.1, 0.1
"""The preference that a face loses whose photo lacks this part of its surroundings: against another
that has more detail there, it keeps them up to alpha 0.06, else to 0.2."""


def preferences(found: Agreement, lacking: Values | None = None) -> Values:
    """Each face's p, (P,) from -HELD to HELD: the more detail there is around it, the higher.

    ``lacking`` (P,) in 0..1 is the part of its surroundings that a face's photo does not have.
    """
    strength = (around() * np.log(found.energies)).sum(axis=(1, 2))
    count = len(strength)
    ranks = strength.argsort(kind="stable").argsort()
    held = HELD * (2 * ranks - (count - 1)) / max(count - 1, 1)
    lost = 0.0 if lacking is None else LOST * np.minimum(lacking / MUCH, 1)
    return np.asarray(held - lost, np.float32)


def part_lacking(lacking: Values) -> float:
    """The part of what surrounds a face of which ``lacking`` (S, S) in 0..1 says that it is not."""
    there = cv2.resize(lacking, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA)
    return float((around() * there).sum() / around().sum())


def shares(weights: NDArray[np.float64], preferred: Values) -> Values:
    """Each face's v (P, s, s): how much of each place it gives, 1 in sum."""
    return _chosen(weights, preferred, around())


def beyond(weights: NDArray[np.float64], preferred: Values) -> Values:
    """Each face's v (P,) outside the frame, where nothing is a face."""
    return _chosen(weights, preferred, np.ones((1, 1), np.float32)).reshape(-1)


def decided(o: Values, count: int) -> Values:
    """How steep k is where o is the map ``o``, for ``count`` faces."""
    return np.asarray(DECIDED * (1 + max(count - 2, 0) * o), np.float32)


@cache
def around() -> Values:
    """The map o (s, s): 0 on the mean shape's face and forehead, 1 around them."""
    face = hull_mask(mesh.head(mean_shape()), (FRAME_SIZE, FRAME_SIZE))
    soft = blurred(1 - face.astype(np.float32), SOFTNESS)
    return np.asarray(cv2.resize(soft, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA))


def _chosen(weights: NDArray[np.float64], preferred: Values, o: Values) -> Values:
    with np.errstate(divide="ignore"):
        odds = np.log(weights).astype(np.float32)[:, None, None] + o * preferred[:, None, None]
    return normalised((1 + decided(o, len(weights)) * o) * odds)
