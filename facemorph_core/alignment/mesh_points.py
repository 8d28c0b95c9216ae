r"""dlib's 68 landmarks from MediaPipe's 468.

A table in common use names a point of the mesh for each landmark. They do not lie where dlib's do:
the mesh's jaw is the rim of the face in space, dlib's the contour that is seen, and brows are
apart by a tenth of the distance of the eyes. So the points of the table, fitted to the mean shape,
go through one linear map,

.. math:: p = b + W (t - m)

with the 136 numbers of :math:`t` ordered x0, y0, x1, y1, ... It was fitted to dlib's landmarks on
public photos, each also mirrored: ``python -m tools.mesh_numbers``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import NUM_LANDMARKS, mean_shape
from facemorph_core.alignment.geometry import Points, apply_affine, fit_similarity, invert_affine

__all__ = ["NUMBERS", "TABLE", "landmarks_of"]

NUMBERS = Path(__file__).parent.parent / "assets" / "mediapipe-68.npz"
# fmt: off
TABLE = (
    162, 234, 93, 58, 172, 136, 149, 148, 152,                     # jaw, to the chin
    377, 378, 365, 397, 288, 323, 454, 389,                        # and up again
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,                 # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,                           # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,     # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,           # outer lips
    78, 82, 13, 312, 308, 317, 14, 87,                             # inner lips
)
"""Which of the 468 each of the 68 is nearest to in meaning."""
# fmt: on


def landmarks_of(mesh: Points) -> Points:
    """(468, 2) points of a face -> its (68, 2) landmarks, in the same pixels."""
    chosen = mesh[list(TABLE)]
    to_frame = fit_similarity(chosen, mean_shape())
    away = apply_affine(to_frame, chosen) - mean_shape()
    weights, middle = _numbers()
    flat = away.reshape(-1) @ weights.T + middle
    return apply_affine(invert_affine(to_frame), flat.reshape(NUM_LANDMARKS, 2))


@cache
def _numbers() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with np.load(NUMBERS, allow_pickle=False) as archive:
        return archive["weights"].astype(np.float64), archive["middle"].astype(np.float64)
