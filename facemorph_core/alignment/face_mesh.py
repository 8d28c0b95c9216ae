"""MediaPipe's face mesh: 468 points of a face, irises not among them, and whether it is one.

The net sees a square of SIDE pixels around an upright face, MARGIN times as wide as it, and is
asked again from where its own points say that the face is, as it was trained. Which way up a face
is, is found by asking at eight angles.

The net is Google's (Apache-2.0); ``assets/README.md`` says where it comes from.

References:
    | Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs (Kartynnik et al., 2019)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.geometry import Points, apply_affine, invert_affine, similarity
from facemorph_core.alignment.resample import resample
from facemorph_core.alignment.search import TURNS, Sight, around
from facemorph_core.machine.inference import cpu_session

__all__ = ["GRAPH", "SIDE", "FaceMesh", "settled"]

GRAPH = Path(__file__).parent.parent / "assets" / "mediapipe-mesh.onnx"
SIDE = 192
MARGIN = 1.5
PLAIN = 10.0
"""Logit of a face that need not be looked at from other angles: 98 in 100 of CelebA have it."""
AGAIN, AGAIN_TURNED = 2, 5
"""How often the net is asked from its own points; a box around a turned face lies less well."""
TURNED = 20.0
"""Degrees from how it was seen."""
_OUTER_CORNERS = (33, 263)
"""Of the eyes, the one on the left of an upright picture first."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceMesh:
    """The points of one face."""

    points: Points
    """(468, 2), (x, y) pixels of the image."""
    logit: float
    """Above 0 where the net takes it for a face; 10 and more for most."""

    @property
    def turn(self) -> float:
        """Degrees, clockwise, by which the line of the eyes is turned."""
        left, right = self.points[list(_OUTER_CORNERS)]
        return math.degrees(math.atan2(right[1] - left[1], right[0] - left[0]))

    @property
    def square(self) -> Sight:
        """Around the points, as they lie when the face is upright."""
        turn = self.turn
        upright = similarity(-math.radians(turn), 1.0, (0.0, 0.0))
        there = apply_affine(upright, self.points)
        low, high = there.min(axis=0), there.max(axis=0)
        middle = apply_affine(invert_affine(upright), (low + high)[None] / 2)[0]
        x, y = middle.tolist()
        return Sight.square((x, y), float((high - low).max()), self.logit, turn)


def settled(image: NDArray[np.uint8], sight: Sight) -> FaceMesh:
    """The mesh of the face that was seen there, at whatever angle it is."""
    turns = (sight.turn + more for more in (0.0, *TURNS))
    best = _asked(image, Sight.square(sight.centre, sight.side, 0.0, next(turns)))
    if best.logit < PLAIN:
        others = [Sight.square(sight.centre, sight.side, 0.0, turn) for turn in turns]
        best = max([best, *(_asked(image, other) for other in others)], key=lambda each: each.logit)
    away = abs((best.turn - sight.turn + 180) % 360 - 180)
    for _ in range(AGAIN if away <= TURNED else AGAIN_TURNED):
        best = _asked(image, best.square)
    return best


def _asked(image: NDArray[np.uint8], place: Sight) -> FaceMesh:
    there = around(place.centre, place.turn, SIDE / (MARGIN * place.side), SIDE)
    crop = resample(image, there, size=(SIDE, SIDE))
    unit = crop.transpose(2, 0, 1)[None].astype(np.float32) / 255
    told, logit = _session().run(["points", "score"], {"images": unit})
    points = told.reshape(-1, 3)[:, :2].astype(np.float64) - 0.5  # from edges to pixels' centres
    return FaceMesh(apply_affine(invert_affine(there), points), float(logit.item()))


@cache
def _session() -> Any:
    return cpu_session(GRAPH.read_bytes(), threads=1)
