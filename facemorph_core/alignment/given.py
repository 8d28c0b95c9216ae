"""Where a face is, said by a person: two eyes, or all 68 landmarks.

For faces that no detector finds: a drawing, a statue, a face behind a veil. The mean face is laid
over two eyes, and dlib's predictor looks for the landmarks from there; where what it finds is no
face, or one whose eyes are elsewhere, the mean face stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.doubts import is_a_face
from facemorph_core.alignment.frame import eye_centres, mean_shape
from facemorph_core.alignment.geometry import Points, apply_affine, fit_similarity
from facemorph_core.alignment.landmarks import DetectedFace
from facemorph_core.alignment.placing import steadied

__all__ = ["Eyes", "GivenLandmarks", "face_given"]

SURE = 1.0
"""The score of a face of which a person says where it is."""
BESIDE = 0.25
"""Of the distance between the eyes: as far from the given ones may those lie that are found."""
CLOSEST = 4.0
"""Pixels between two eyes."""


@dataclass(frozen=True, slots=True)
class Eyes:
    """The centres (x, y) of two eyes, pixels of the upright photo, the picture's left one first.

    "Left" is what is left when the face is upright.

    Examples:
        >>> Eyes((30.0, 40.0), (70.0, 40.0)).distance
        40.0
    """

    left: tuple[float, float]
    right: tuple[float, float]

    @property
    def distance(self) -> float:
        """Pixels."""
        return math.dist(self.left, self.right)


@dataclass(frozen=True, slots=True, eq=False)
class GivenLandmarks:
    """All 68 landmarks (68, 2), in dlib's order, (x, y) pixels of the upright photo.

    Examples:
        >>> GivenLandmarks(mean_shape()).points.shape
        (68, 2)
    """

    points: Points


def face_given(image: NDArray[np.uint8], given: Eyes | GivenLandmarks) -> DetectedFace:
    """The face that is where it is said to be, in the image (H, W, 3).

    Raises:
        ValueError: eyes beyond the image or on one place, or landmarks that are beyond it or none.
    """
    if isinstance(given, GivenLandmarks):
        return _by_landmarks(image, given.points)
    return _by_eyes(image, given)


def _by_eyes(image: NDArray[np.uint8], eyes: Eyes) -> DetectedFace:
    both = np.array([eyes.left, eyes.right])
    if not _inside(image, both).all():
        raise ValueError(f"an eye lies beyond the photo of {_size(image)}")
    if eyes.distance < CLOSEST:
        raise ValueError(f"the eyes are {eyes.distance:.1f} pixels apart, and that is no face")
    laid = apply_affine(fit_similarity(eye_centres(mean_shape()), both), mean_shape())
    found = steadied(image, laid)
    beside = np.linalg.norm(eye_centres(found) - both, axis=1).max()
    if is_a_face(found) and beside <= BESIDE * eyes.distance:
        return DetectedFace(found, _around(found), SURE)
    doubt = "no landmarks are found near these eyes: those of the mean face are taken"
    return DetectedFace(laid, _around(laid), SURE, (doubt,))


def _by_landmarks(image: NDArray[np.uint8], points: Points) -> DetectedFace:
    if points.shape != mean_shape().shape or not np.isfinite(points).all():
        raise ValueError(f"68 landmarks (x, y) are needed, got {points.shape}")
    if not _inside(image, points).any():
        raise ValueError(f"all landmarks lie beyond the photo of {_size(image)}")
    if np.ptp(points, axis=0).max() < CLOSEST:
        raise ValueError("the landmarks lie on one place")
    doubts = () if is_a_face(points) else ("the landmarks do not lie as those of a face do",)
    return DetectedFace(points, _around(points), SURE, doubts)


def _inside(image: NDArray[np.uint8], points: Points) -> NDArray[np.bool_]:
    inside = (points >= -0.5) & (points <= np.array(image.shape[1::-1]) - 0.5)
    return np.asarray(inside.all(axis=1))


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} x {image.shape[0]} pixels"


def _around(points: Points) -> tuple[int, int, int, int]:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return math.floor(left), math.floor(top), math.ceil(right) + 1, math.ceil(bottom) + 1
