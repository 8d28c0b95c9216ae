"""Whole photos in one picture: where each lies, and where the face is on the way.

The picture has the shape of the first photo. The others cover it, cut where they are wider or
higher, with their faces inside. Between photos the frame moves, turns and grows evenly (its scale
by equal factors) from its place in the one to its place in the other; with all weight on one photo
the view shows that photo pixel for pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import FRAME_SIZE
from facemorph_core.alignment.geometry import (
    Affine,
    apply_affine,
    compose_affine,
    invert_affine,
    rescaling,
    similarity,
)
from facemorph_core.morphing.layers import Face
from facemorph_core.morphing.view import View

__all__ = ["Canvas", "canvas_size"]

MIDDLE = (FRAME_SIZE - 1) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A picture of some size, and how each photo lies in it."""

    size: tuple[int, int]
    placed: tuple[Affine, ...]
    """Pixels of the picture -> those of each photo."""
    to_frames: tuple[Affine, ...]
    """Pixels of the picture -> those of the frame, for each photo by itself."""

    @staticmethod
    def of(faces: Sequence[Face], size: tuple[int, int]) -> Canvas:
        """``size`` is (h, w)."""
        placed = tuple(_covering(size, face) for face in faces)
        both = zip(faces, placed, strict=True)
        return Canvas(size, placed, tuple(compose_affine(f.to_frame, p) for f, p in both))

    def view(self, weights: NDArray[np.float64]) -> View:
        """What is seen with ``weights`` (P,), 1 in sum."""
        turns, scales, places = zip(*(_pose(each) for each in self.to_frames), strict=True)
        turn, scale = float(weights @ turns), float(np.exp(weights @ np.log(scales)))
        x, y = weights @ np.array(places)
        linear = similarity(turn, scale, (0.0, 0.0))
        shift = (x, y) - linear[:, :2] @ (MIDDLE, MIDDLE)
        from_frame = np.column_stack([linear[:, :2], shift])
        return View(self.size, invert_affine(from_frame), self.placed)


def canvas_size(photo: NDArray[np.uint8], longest: int) -> tuple[int, int]:
    """(h, w) of a picture in the shape of ``photo``, no longer than ``longest`` pixels a side."""
    h, w = photo.shape[:2]
    factor = min(1.0, longest / max(h, w))
    return max(1, round(h * factor)), max(1, round(w * factor))


def _covering(size: tuple[int, int], face: Face) -> Affine:
    """Pixels of a picture of ``size`` -> those of the face's photo, which covers it."""
    (h, w), (tall, wide) = size, face.photo.shape[:2]
    factor = min(wide / w, tall / h)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * FRAME_SIZE - 0.5
    there = apply_affine(invert_affine(face.to_frame), corners)
    window = np.array([w * factor, h * factor])
    room = np.maximum([wide, tall] - window, 0)
    low, high = there.max(axis=0) - window, there.min(axis=0)  # where the frame is whole
    middle = np.where(low <= high, np.clip(room / 2, low, high), (low + high) / 2)
    left, top = np.clip(middle, 0, room).tolist()
    return compose_affine(similarity(0.0, 1.0, (left, top)), rescaling(factor))


def _pose(to_frame: Affine) -> tuple[float, float, tuple[float, float]]:
    """Angle, scale and middle of the frame in a picture."""
    from_frame = invert_affine(to_frame)
    a, b = from_frame[:, 0].tolist()
    x, y = apply_affine(from_frame, np.array([[MIDDLE, MIDDLE]]))[0].tolist()
    return float(np.arctan2(b, a)), float(np.hypot(a, b)), (x, y)
