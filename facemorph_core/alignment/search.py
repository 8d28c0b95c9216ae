"""Where in a picture faces are, of any size and at any angle, with a detector of upright ones.

A detector knows faces from some size on and a few degrees from upright. Here a picture is shown to
it at several sizes, and turned where it is not sure of what it found, and what was found several
times is one face. Boxes are left, top, right, bottom in pixels; a `Sight` holds one as it lies when
the picture is turned about its middle until the face is upright.

References:
    | Non-maximum suppression: Object detection with discriminatively trained part-based models
    | (Felzenszwalb et al., 2010)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.geometry import (
    Affine,
    Points,
    apply_affine,
    compose_affine,
    invert_affine,
    rescaling,
    similarity,
)
from facemorph_core.alignment.resample import resized

__all__ = [
    "CLEAR",
    "LEAST_TURNED",
    "Box",
    "Look",
    "Sight",
    "around",
    "merged",
    "nearer_sight",
    "ranked",
    "turned_sights",
    "upright_sights",
    "weight_of",
]

Box = tuple[float, float, float, float]
Look = Callable[[NDArray[np.uint8]], list[tuple[Box, float]]]
"""The upright faces of a picture with their scores: above 0, 1 and more for a clear one."""

CLEAR = 1.0
"""A face of this score is surely one; below, it counts for less than its size."""
SAME = 0.5
"""Of the smaller of two boxes, so much in the other means one face."""
TURNS = (45.0, -45.0, 90.0, -90.0, 135.0, -135.0, 180.0)
"""Degrees, besides upright: a detector bears 15 and more of them to either side."""
LEAST_TURNED = 0.9
"""Score, once it is upright, below which what is found in a turned picture is no face: seven times
as many things are seen in seven of them."""
NEAR_SIDE, NEAR_MARGIN = 120, 0.6
"""Of a face in a crop around it: its side, pixels, and the margin on every side, in sides."""
_GREY = (127, 127, 127)


@dataclass(frozen=True, slots=True)
class Sight:
    """Where a face was seen."""

    box: Box
    """As it lies when the face is upright."""
    score: float
    turn: float = 0.0
    """Degrees, clockwise, by which the face is turned in the picture."""
    scale: float = 0.0
    """That it was seen at; 0 where it was looked at more closely."""

    @classmethod
    def square(
        cls, centre: tuple[float, float], side: float, score: float, turn: float = 0.0
    ) -> Sight:
        """One whose box has this centre (x, y) and side, pixels."""
        (x, y), half = centre, side / 2
        return cls((x - half, y - half, x + half, y + half), score, turn)

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) pixels."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    @property
    def side(self) -> float:
        """Of a square as large, pixels."""
        left, top, right, bottom = self.box
        return (right - left + bottom - top) / 2

    @property
    def certainty(self) -> float:
        return certainty_of(self.score)

    @property
    def standing(self) -> float:
        """Nothing, a half or a whole: how sure it is, roughly."""
        return round(2 * self.certainty) / 2

    @property
    def weight(self) -> float:
        """See `weight_of`."""
        return weight_of(self.box, self.score)


def certainty_of(score: float) -> float:
    """From nearly 0 to 1, which every clear face has."""
    return min(1.0, max(0.01, score / CLEAR))


def weight_of(box: Box, score: float) -> float:
    """The area of a box, less where the detector is not sure: faces are ranked by it."""
    left, top, right, bottom = box
    return (right - left) * (bottom - top) * certainty_of(score) ** 2


def upright_sights(
    image: NDArray[np.uint8],
    look: Look,
    scales: Iterable[float],
    *,
    enough: bool = False,
    border: int = 0,
) -> list[Sight]:
    """What is seen at each of the ``scales``, with a border of so many pixels around the picture.

    With ``enough`` no more is looked at once a face is clear; the scales come from small to large,
    so that what is found later is smaller.
    """
    found: list[Sight] = []
    for scale in scales:
        found = merged([*found, *_at(image, look, scale, border)])
        if enough and any(sight.score >= CLEAR for sight in found):
            break
    return found


def turned_sights(
    image: NDArray[np.uint8], look: Look, scale: float, turns: Sequence[float] = TURNS
) -> list[Sight]:
    """What is seen in the picture turned about its middle, at one size."""
    h, w = image.shape[:2]
    found, shrunk = [], _scaled(image, min(1.0, scale))
    for turn in turns:
        there, size = _turned(w, h, turn, scale)
        picture = _warped(shrunk, there, w, size)
        back = invert_affine(there)
        found += [_sight(box, score, back, scale, turn) for box, score in look(picture)]
    return found


def nearer_sight(image: NDArray[np.uint8], look: Look, sight: Sight, turn: float) -> Sight | None:
    """The surest one in a crop around ``sight``, turned by ``turn`` instead; None without any."""
    extent, scale = round(NEAR_SIDE * (1 + 2 * NEAR_MARGIN)), NEAR_SIDE / sight.side
    there = around(sight.centre, turn, scale, extent)
    shrunk = _scaled(image, min(1.0, scale))
    found = look(_warped(shrunk, there, image.shape[1], (extent, extent)))
    back = invert_affine(there)
    seen = [_sight(box, score, back, scale, turn) for box, score in found]
    return max(seen, key=lambda each: each.score, default=None)


def around(centre: tuple[float, float], turn: float, scale: float, extent: int) -> Affine:
    """The way into a square picture of ``extent`` pixels with ``centre`` in its middle, turned."""
    plain = similarity(-math.radians(turn), scale, (0.0, 0.0))
    x, y = apply_affine(plain, np.array([centre]))[0].tolist()
    middle = (extent - 1) / 2
    return similarity(-math.radians(turn), scale, (middle - x, middle - y))


def merged(sights: Sequence[Sight]) -> list[Sight]:
    """One sight of each face: the surest, and of upright ones that are about as sure the first."""
    kept: list[Sight] = []
    for sight in sorted(sights, key=lambda each: -each.score if each.turn else -each.standing):
        if all(_shared(sight, other) < SAME for other in kept):
            kept.append(sight)
    return kept


def ranked(sights: Iterable[Sight]) -> list[Sight]:
    """By size and certainty together; of equal ones the leftmost first."""
    return sorted(sights, key=lambda each: (-each.weight, each.centre[0]))


def _at(image: NDArray[np.uint8], look: Look, scale: float, border: int) -> list[Sight]:
    h, w = image.shape[:2]
    scaled = _scaled(image, scale)
    step = np.array([scaled.shape[1] / w, scaled.shape[0] / h] * 2)
    if border:
        # Repeated, not reflected: a reflected eye or mouth would be found as a second face.
        sides = (border,) * 4
        scaled = cv2.copyMakeBorder(scaled, *sides, borderType=cv2.BORDER_REPLICATE)  # type: ignore
    found = []
    for box, score in look(np.asarray(scaled, np.uint8)):
        left, top, right, bottom = ((np.array(box) - border) / step - 0.5).tolist()
        found.append(Sight((left, top, right, bottom), score, scale=scale))
    return found


def _warped(shrunk: NDArray[np.uint8], there: Affine, width: int, size: tuple[int, int]) -> Any:
    """The (w, h) picture under ``there`` of one ``width`` pixels wide that was shrunk already.

    A plain warp that shrinks would alias. Beyond the border it is grey: a reflected face would be
    found as another one.
    """
    matrix = compose_affine(there, rescaling(width / shrunk.shape[1]))
    return cv2.warpAffine(shrunk, matrix, size, flags=cv2.INTER_LINEAR, borderValue=_GREY)


def _scaled(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    h, w = image.shape[:2]
    return resized(image, (max(1, round(w * scale)), max(1, round(h * scale))))


def _turned(w: int, h: int, turn: float, scale: float) -> tuple[Affine, tuple[int, int]]:
    """The way into the picture turned counter-clockwise and scaled, and its (w, h)."""
    angle = -math.radians(turn)
    plain = similarity(angle, scale, (0.0, 0.0))
    corners = np.array([[0.0, 0.0], [w - 1, 0.0], [w - 1, h - 1], [0.0, h - 1]])
    there = apply_affine(plain, corners)
    low, extent = there.min(axis=0), np.ptp(there, axis=0)
    size = int(np.ceil(extent[0])) + 1, int(np.ceil(extent[1])) + 1
    return similarity(angle, scale, (-float(low[0]), -float(low[1]))), size


def _sight(box: Box, score: float, back: Affine, scale: float, turn: float) -> Sight:
    left, top, right, bottom = box
    middle: Points = np.array([[(left + right) / 2 - 0.5, (top + bottom) / 2 - 0.5]])
    x, y = apply_affine(back, middle)[0].tolist()
    return Sight.square((x, y), (right - left + bottom - top) / 2 / scale, score, turn)


def _shared(a: Sight, b: Sight) -> float:
    """Which part of the smaller square lies in the other; turned ones count as upright."""
    across = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    down = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    return max(0.0, across) * max(0.0, down) / min(a.side, b.side) ** 2
