"""What is doubtful about a face that was found: said beside the result, not instead of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from facemorph_core.alignment.beyond import share_lacking
from facemorph_core.alignment.frame import eye_centres, mean_shape, shape_basis
from facemorph_core.alignment.geometry import Points, apply_affine, fit_similarity

__all__ = ["doubts_about", "is_a_face", "kind_of", "turn_of"]

UNSURE = 0.5
"""Score: one in fifty faces of CelebA's photos has less."""
NEARLY = 0.5
"""Of the weight of the face that is taken: another one may have been meant."""
FEW_PIXELS = 24.0
"""Between the eyes; the frame of 128 pixels has 36."""
LACKING = 0.05
"""Of the frame: what lies beyond the photo."""
TURNED = 30.0
"""Degrees from upright."""
FARTHEST_SHAPE, FARTHEST_POINT = 2.6, 1.4
"""Root mean square of the shape's numbers, and pixels of the frame beside what they can say: of the
faces of CelebA's photos none has more than 2.2 and .8, a misplaced set often both."""


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
    elif (lacking := share_lacking(fit_similarity(face.landmarks, mean_shape()), size)) > LACKING:
        said.append(f"the photo ends close to the face: {lacking:.0%} around it is not there")
    turn = abs(turn_of(face.landmarks))
    if turn > TURNED:
        said.append(f"the face is turned by {turn:.0f} degrees")
    return tuple(said)


def kind_of(doubt: str) -> str:
    """What a doubt has in common with those of other faces: its words before the first figure.

    Examples:
        >>> kind_of("the face is turned by 43 degrees"), kind_of("the face is small: 20 pixels")
        ('the face is turned', 'the face is small')
    """
    return re.split(r"\s*(?::|\(|by \d)", doubt, maxsplit=1)[0]


def turn_of(landmarks: Points) -> float:
    """Degrees, clockwise, by which a face is turned in its picture; from -180 to 180.

    Examples:
        >>> round(turn_of(mean_shape())), round(turn_of(mean_shape()[:, ::-1] * [-1, 1]))
        (0, 90)
    """
    to_frame = fit_similarity(np.asarray(landmarks, np.float64), mean_shape())
    return -math.degrees(math.atan2(to_frame[1, 0], to_frame[0, 0]))


def is_a_face(landmarks: Points) -> bool:
    """Whether 68 points lie as those of a face can: near the shapes of the basis."""
    points = apply_affine(fit_similarity(landmarks, mean_shape()), landmarks)
    basis = shape_basis()
    numbers = basis.encode_shape(points)
    beside = points - basis.decode_shape(numbers)
    far = float(np.sqrt((numbers**2).mean())), float(np.sqrt((beside**2).sum(axis=1).mean()))
    return far[0] <= FARTHEST_SHAPE and far[1] <= FARTHEST_POINT
