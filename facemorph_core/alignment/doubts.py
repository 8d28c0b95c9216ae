"""What is doubtful about a face that was found: said beside the result, not instead of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from facemorph_core.alignment.frame import eye_centres, mean_shape
from facemorph_core.alignment.geometry import Points, fit_similarity

__all__ = ["doubts_about", "turn_of"]

UNSURE = 0.5
"""Score: one in fifty faces of CelebA's photos has less."""
NEARLY = 0.5
"""Of the weight of the face that is taken: another one may have been meant."""
FEW_PIXELS = 24.0
"""Between the eyes; the frame of 128 pixels has 36."""
TURNED = 30.0
"""Degrees from upright."""


class Found(Protocol):
    """As much of a detected face as is asked for here."""

    @property
    def landmarks(self) -> Points: ...

    @property
    def score(self) -> float: ...

    @property
    def weight(self) -> float: ...


def doubts_about(face: Found, others: Sequence[Found], size: tuple[int, int]) -> tuple[str, ...]:
    """Sentences about a face in an image of ``size`` (h, w); ``others`` may have been meant."""
    said = []
    if face.score < UNSURE:
        said.append(f"the detector is not sure that this is a face (score {face.score:.2f})")
    if any(other.weight >= NEARLY * face.weight for other in others):
        said.append("another face is nearly as large: --face 2 takes the next")
    left, right = eye_centres(face.landmarks)
    between = math.dist(left, right)
    if between < FEW_PIXELS:
        said.append(f"the face is small: {between:.0f} pixels between the eyes")
    inside = (face.landmarks > -1).all(axis=1) & (face.landmarks < (size[1], size[0])).all(axis=1)
    if not inside.all():
        said.append("the face is cut by the photo's edge")
    if abs(turn_of(face.landmarks)) > TURNED:
        said.append(f"the face is turned by {abs(turn_of(face.landmarks)):.0f} degrees")
    return tuple(said)


def turn_of(landmarks: Points) -> float:
    """Degrees, clockwise, by which a face is turned in its picture; from -180 to 180.

    Examples:
        >>> round(turn_of(mean_shape())), round(turn_of(mean_shape()[:, ::-1] * [-1, 1]))
        (0, 90)
    """
    to_frame = fit_similarity(np.asarray(landmarks, np.float64), mean_shape())
    return -math.degrees(math.atan2(to_frame[1, 0], to_frame[0, 0]))
