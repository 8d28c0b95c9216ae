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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.beyond import all_inside, distance_beyond, places, soft
from facemorph_core.alignment.continuation import continued
from facemorph_core.alignment.frame import FRAME_SIZE
from facemorph_core.alignment.geometry import (
    Affine,
    compose_affine,
    invert_affine,
    rescaling,
    scale_of,
)
from facemorph_core.alignment.halvings import Halvings
from facemorph_core.alignment.mesh import Displacement

__all__ = ["Photo", "View", "inner"]

Values = NDArray[np.float32]

EDGE = 12
"""Pixels of the canonical frame over which it passes into its surroundings."""
ROUNDED = 1.0
"""Pixels of the canonical frame by which a mesh may reach beyond its border, as it is painted."""
Places = tuple[Values, Values]
"""(x, y), each (h, w): pixels of a photo."""


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
        x, y = places(self.size, self.to_frame)
        beyond = [
            np.maximum(np.abs(along - (FRAME_SIZE - 1) / 2) - FRAME_SIZE / 2, 0) for along in (x, y)
        ]
        from_frame = np.hypot(*beyond) / np.float32(scale_of(self.to_frame))
        rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (h, w))
        from_border = np.minimum(rows[:, None], columns).astype(np.float32)
        near = (from_border + 1e-3) / (from_border + from_frame + 1e-3)
        return np.asarray(near * near * (3 - 2 * near), np.float32)

    def _sampled(self, picture: Values, way: int, border: int) -> Values:
        x, y = places(self.size, self.to_frame)
        parts = [  # OpenCV takes four channels at a time
            np.asarray(cv2.remap(picture[..., at : at + 4], x, y, way, borderMode=border))
            for at in range(0, picture.shape[2], 4)
        ]
        return np.concatenate([part.reshape(*self.size, -1) for part in parts], axis=-1)


class Photo:
    """A photo, seen through views."""

    def __init__(
        self, pixels: NDArray[np.uint8], to_frame: Affine, lacking: Values | None = None
    ) -> None:
        """``lacking`` (H, W) in 0..1: what of ``pixels`` is no photo; None: nothing."""
        self.channels = pixels.shape[2]
        self._pictures, self._size = Halvings(pixels), (pixels.shape[0], pixels.shape[1])
        self._to_frame, self._lacking = to_frame, lacking

    def places(
        self,
        away: Displacement,
        view: View,
        placed: Affine | None = None,
        pull: Values | None = None,
    ) -> Places:
        """Where in the photo each pixel of ``view`` lies.

        Each place of the frame shows the one that lies ``away`` (128, 128, 2) from it.
        With ``placed`` the photo lies by itself there, and by its face where ``pull`` is 1.
        """
        from_frame = invert_affine(self._to_frame)
        moved, linear = view.moved(away), from_frame[:, :2].astype(np.float32)
        x, y = places(view.size, compose_affine(from_frame, view.to_frame))
        x += linear[0, 0] * moved[..., 0] + linear[0, 1] * moved[..., 1]
        y += linear[1, 0] * moved[..., 0] + linear[1, 1] * moved[..., 1]
        if placed is not None and pull is not None:
            own_x, own_y = places(view.size, placed)
            x, y = own_x + pull * (x - own_x), own_y + pull * (y - own_y)
        return x, y

    def seen(self, there: Places, view: View) -> Values:
        """The photo at ``there``, the places of ``view``: (h, w, C) in levels of 255."""
        pace = scale_of(view.to_frame) / scale_of(self._to_frame)
        halvings, picture = self._pictures.nearest(round(math.log2(max(pace, 1e-6))))
        factor = np.float32(0.5**halvings)
        x, y = (factor * (each + 0.5) - 0.5 for each in there)
        found = cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        result = np.asarray(found, np.float32).reshape(*view.size, self.channels)
        if self._has_all(there):
            return result
        return continued(result, *there, distance_beyond(*there, self._size), self._pictures)

    def lacking(self, there: Places) -> Values:
        """(h, w) in 0..1: 1 where the photo has nothing to show."""
        if self._lacking is None:
            if self._has_all(there):
                return np.zeros_like(there[0])
            far = distance_beyond(*there, self._size)
            return soft(far * np.float32(scale_of(self._to_frame)))
        way, border = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        found = cv2.remap(self._lacking, *there, way, borderMode=border)
        return np.asarray(found, np.float32)

    def _has_all(self, there: Places) -> bool:
        slack = ROUNDED / scale_of(self._to_frame)
        return all_inside(*there, self._size, slack=slack)


@cache
def inner() -> Values:
    """(128, 128, 1) in 0..1: 0 at the edge of the frame, 1 from EDGE pixels inside on."""
    depth = np.minimum(np.arange(FRAME_SIZE), np.arange(FRAME_SIZE)[::-1]) / EDGE
    ramp = np.clip(depth, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.minimum(ramp, ramp[:, None])[..., None].astype(np.float32)
