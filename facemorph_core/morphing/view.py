"""What a picture of a morph shows: the frame alone, or whole photos around it.

The frame lies in a plane; every photo lies in it too, by the similarity that aligned its face. A
`View` is a piece of that plane at some size. In a view of whole photos each of them keeps to its
own place at the picture's border and is drawn towards the faces' common place at the frame, so
that none ends before the picture does and straight walls stay nearly straight.

Convention:
    affines map (x, y) pixels; maps are (h, w) float32; the frame is the canonical one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import FRAME_SIZE
from facemorph_core.alignment.geometry import (
    Affine,
    compose_affine,
    invert_affine,
    rescaling,
    scale_of,
)
from facemorph_core.alignment.mesh import Displacement

__all__ = ["Photo", "View", "inner"]

Values = NDArray[np.float32]

EDGE = 12
"""Pixels of the canonical frame over which it passes into its surroundings."""
LONGEST_SIDE = 32766
"""Pixels that OpenCV can address."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A piece of the frame's plane."""

    size: tuple[int, int]
    """(h, w) of the picture."""
    to_frame: Affine
    """Pixels of the picture -> those of the canonical frame."""
    placed: Sequence[Affine] = ()
    """Pixels of the picture -> those of each photo, where it lies by itself; empty: the frame
    alone is seen."""

    @staticmethod
    def of_frame(side: int) -> View:
        """The frame alone, ``side`` pixels high and wide."""
        return View((side, side), rescaling(FRAME_SIZE / side))

    def shown(self, picture: Values) -> Values:
        """A picture (128, 128, C) of the frame, in this view: (h, w, C)."""
        return self._sampled(picture, cv2.INTER_CUBIC, cv2.BORDER_REPLICATE)

    def moved(self, away: Displacement) -> Displacement:
        """A displacement over the frame, in this view; nothing moves outside the frame."""
        return self._sampled(away, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT)

    def pull(self) -> Values:
        """(h, w): 1 over the frame, 0 at the picture's border, smooth between."""
        h, w = self.size
        x, y = plane(self.size, self.to_frame)
        beyond = [
            np.maximum(np.abs(along - (FRAME_SIZE - 1) / 2) - FRAME_SIZE / 2, 0) for along in (x, y)
        ]
        from_frame = np.hypot(*beyond) / np.float32(scale_of(self.to_frame))
        rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (h, w))
        from_border = np.minimum(rows[:, None], columns).astype(np.float32)
        near = (from_border + 1e-3) / (from_border + from_frame + 1e-3)
        return np.asarray(near * near * (3 - 2 * near), np.float32)

    def _sampled(self, picture: Values, way: int, border: int) -> Values:
        x, y = plane(self.size, self.to_frame)
        parts = [  # OpenCV takes four channels at a time
            np.asarray(cv2.remap(picture[..., at : at + 4], x, y, way, borderMode=border))
            for at in range(0, picture.shape[2], 4)
        ]
        return np.concatenate([part.reshape(*self.size, -1) for part in parts], axis=-1)


class Photo:
    """A photo at its own size and at halves of it, for views that show it smaller."""

    def __init__(self, pixels: NDArray[np.uint8], to_frame: Affine) -> None:
        self.channels = pixels.shape[2]
        self._levels, self._lock = [pixels], threading.Lock()
        self._from_frame = invert_affine(to_frame)
        self._coarsest = 0
        while max(self._levels[self._coarsest].shape) > LONGEST_SIDE:
            self._coarsest += 1
            self._reach(self._coarsest)

    def seen(
        self,
        away: Displacement,
        view: View,
        placed: Affine | None = None,
        pull: Values | None = None,
    ) -> Values:
        """The photo in ``view``, (h, w, C) in levels of 255.

        Each place of the frame shows the one that lies ``away`` (128, 128, 2) from it.
        With ``placed`` the photo lies by itself there, and by its face where ``pull`` is 1.
        """
        by_face = compose_affine(self._from_frame, view.to_frame)
        level = self._reach(round(math.log2(max(scale_of(by_face), 1e-6))))
        smaller = rescaling(0.5**level)
        moved = view.moved(away)
        linear = (0.5**level * self._from_frame[:, :2]).astype(np.float32)
        x, y = plane(view.size, compose_affine(smaller, by_face))
        x += linear[0, 0] * moved[..., 0] + linear[0, 1] * moved[..., 1]
        y += linear[1, 0] * moved[..., 0] + linear[1, 1] * moved[..., 1]
        if placed is not None and pull is not None:
            own_x, own_y = plane(view.size, compose_affine(smaller, placed))
            x, y = own_x + pull * (x - own_x), own_y + pull * (y - own_y)
        picture, border = self._levels[level], cv2.BORDER_REFLECT_101
        found = cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=border)
        return np.asarray(found, np.float32).reshape(*view.size, self.channels)

    def _reach(self, level: int) -> int:
        """The level nearest to ``level`` that there is; made if need be."""
        with self._lock:
            while len(self._levels) <= level and min(self._levels[-1].shape[:2]) > 1:
                finer = self._levels[-1]
                size = (finer.shape[1] + 1) // 2, (finer.shape[0] + 1) // 2
                coarser = cv2.resize(finer, size, interpolation=cv2.INTER_AREA)
                self._levels.append(np.asarray(coarser, np.uint8))
        return min(max(level, self._coarsest), len(self._levels) - 1)


def plane(size: tuple[int, int], affine: Affine) -> tuple[Values, Values]:
    """Where ``affine`` sends each pixel of a picture of ``size``, (x, y)."""
    across, down = np.arange(size[1]), np.arange(size[0])[:, None]
    x, y = (row[0] * across + row[1] * down + row[2] for row in affine)
    return x.astype(np.float32), y.astype(np.float32)


@cache
def inner() -> Values:
    """(128, 128, 1) in 0..1: 0 at the edge of the frame, 1 from EDGE pixels inside on."""
    depth = np.minimum(np.arange(FRAME_SIZE), np.arange(FRAME_SIZE)[::-1]) / EDGE
    ramp = np.clip(depth, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.minimum(ramp, ramp[:, None])[..., None].astype(np.float32)
