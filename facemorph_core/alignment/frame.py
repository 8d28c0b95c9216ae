r"""The canonical frame: where a face's landmarks lie in an aligned picture, and in how many ways.

The mean shape puts the eye centres EYE_DISTANCE apart around EYE_CENTRE in a frame of FRAME_SIZE
pixels; it is mirror-symmetric about the middle of the frame. The shape basis holds the
24 largest ways in which frames differ from it:

.. math:: p = m + \sum_k z_k \sigma_k c_k

with the 136 numbers of :math:`p` ordered x0, y0, x1, y1, ... and :math:`z` of unit variance over
the faces it was fitted on.

Both were computed once from public photos (``assets/README.md`` says which; ``python -m
tools.frame_numbers`` computes them again) and never from a site's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.geometry import Points, apply_affine, rescaling
from facemorph_core.disk.hashing import file_sha256

__all__ = [
    "EYE_CENTRE",
    "EYE_DISTANCE",
    "FRAME_SIZE",
    "MIRRORED",
    "NUM_LANDMARKS",
    "NUM_SHAPE",
    "ShapeBasis",
    "eye_centres",
    "frame_digest",
    "framing",
    "mean_shape",
    "mirror_landmarks",
    "shape_basis",
]

FRAME_SIZE = 128
EYE_DISTANCE = 36.0
EYE_CENTRE = (63.5, 59.5)
NUM_LANDMARKS = 68
NUM_SHAPE = 24

# Which landmark of the 68 a landmark becomes when the face is seen in a mirror.
# fmt: off
MIRRORED = np.array([
    *range(16, -1, -1),                                   # jaw
    *range(26, 16, -1),                                   # brows
    27, 28, 29, 30, 35, 34, 33, 32, 31,                   # nose
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,       # eyes
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,       # outer lips
    64, 63, 62, 61, 60, 67, 66, 65,                       # inner lips
])
# fmt: on

_NUMBERS = Path(__file__).parent.parent / "assets" / "frame.npz"


@dataclass(frozen=True, slots=True, eq=False)
class ShapeBasis:
    """Principal components of landmarks in the frame of FRAME_SIZE pixels."""

    mean: NDArray[np.float64]
    """(136,) pixels."""
    components: NDArray[np.float64]
    """(24, 136), orthonormal rows, largest first."""
    scales: NDArray[np.float64]
    """(24,) standard deviation along each component, pixels."""

    def encode_shape(self, points: Points) -> NDArray[np.float64]:
        """(..., 68, 2) landmarks in the frame -> (..., 24) numbers of about unit variance."""
        flat = points.reshape(*points.shape[:-2], 2 * NUM_LANDMARKS)
        return (flat - self.mean) @ self.components.T / self.scales

    def decode_shape(self, code: NDArray[np.float64]) -> Points:
        """(..., 24) numbers -> (..., 68, 2) landmarks in the frame."""
        flat = self.mean + (code * self.scales) @ self.components
        return flat.reshape(*code.shape[:-1], NUM_LANDMARKS, 2)


def mean_shape(size: int = FRAME_SIZE) -> Points:
    """(68, 2) mean landmarks, in pixels of a frame with side ``size``."""
    points: Points = _numbers()["mean_shape"]
    return (
        points.copy() if size == FRAME_SIZE else apply_affine(rescaling(size / FRAME_SIZE), points)
    )


def shape_basis() -> ShapeBasis:
    """The shipped basis of 24 components."""
    numbers = _numbers()
    return ShapeBasis(
        numbers["basis_mean"].copy(), numbers["components"].copy(), numbers["scales"].copy()
    )


def framing(size: int = FRAME_SIZE) -> dict[str, Any]:
    """How a frame of side ``size`` is laid out, as plain values for a file."""
    middle = apply_affine(rescaling(size / FRAME_SIZE), np.array([EYE_CENTRE]))[0]
    return {
        "size": size,
        "eye_distance": EYE_DISTANCE * size / FRAME_SIZE,
        "eye_centre": [float(value) for value in middle],
        "landmarks": "dlib68",
    }


def frame_digest() -> str:
    """SHA-256 of the shipped numbers: another mean shape is another framing."""
    return file_sha256(_NUMBERS)


def eye_centres(points: Points) -> Points:
    """(2, 2): centre of the eye on the left of the picture, then of the other."""
    return np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0)])


def mirror_landmarks(points: Points, *, width: float) -> Points:
    """Landmarks of the picture of that width, mirrored left to right."""
    flipped = points[MIRRORED].copy()
    flipped[:, 0] = (width - 1) - flipped[:, 0]
    return flipped


@cache
def _numbers() -> dict[str, NDArray[np.float64]]:
    with np.load(_NUMBERS, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if archive[name].dtype == np.float64}
