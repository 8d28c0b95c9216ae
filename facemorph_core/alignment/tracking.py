"""A face from one picture of a stream to the next: looked for where it was, then everywhere.

The detector's work grows with the picture. While a face moves less than a good half of its width
between two pictures, it is found again in a crop around its last place, shrunk until the face
is as small as the detector allows: some milliseconds instead of the tens that the whole
picture takes. A crop without a face means a search of the whole picture, so nothing that the
detector would find is lost; what was found is the same face as long as it stays the largest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.landmarks import Box, DetectedFace, DlibDetector
from facemorph_core.alignment.resample import reflected_crop

__all__ = ["FaceTracker"]

MARGIN = 0.6
"""Of the face's box on every side: how far a face may move and still be in the crop."""
FACE_SIDE = 120
"""Side of the box in the crop, pixels: the detector finds faces of 80 and more."""
WHOLE_EVERY = 2.0
"""Seconds after which the whole picture is searched again: a larger face may have come."""


@dataclass
class FaceTracker:
    """A `LandmarkDetector` for the pictures of one stream, in order."""

    detector: DlibDetector = field(default_factory=DlibDetector)
    whole_every: float = WHOLE_EVERY
    clock: Callable[[], float] = time.monotonic
    last: DetectedFace | None = field(default=None, init=False)
    searched: float = field(default=-math.inf, init=False)
    """When the whole picture was searched last."""

    @property
    def tried(self) -> str:
        return self.detector.tried

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """The face that was there before, or all faces of a search of the whole picture."""
        now = self.clock()
        if self.last is not None and now - self.searched < self.whole_every:
            found = self._near(image, self.last.box)
            if found is not None:
                self.last = found
                return [found]
        faces = self.detector.detect_first(image)
        self.searched = now
        self.last = faces[0] if faces else None
        return faces

    def _near(self, image: NDArray[np.uint8], box: Box) -> DetectedFace | None:
        """The largest face in a crop around ``box``."""
        left, top, right, bottom = box
        side = max(right - left, bottom - top)
        low = np.floor([left - MARGIN * side, top - MARGIN * side]).astype(int)
        high = np.ceil([right + MARGIN * side, bottom + MARGIN * side]).astype(int)
        crop = reflected_crop(image, *low.tolist(), *high.tolist())
        step = min(1.0, FACE_SIDE / side)
        width, height = (max(1, round(step * extent)) for extent in (high - low).tolist())
        shrunk = np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA))
        found = self.detector.find(np.ascontiguousarray(shrunk, np.uint8))
        if not found:
            return None
        corners, score = max(found, key=lambda each: each[0][2] - each[0][0])
        scale = np.array([width, height]) / (high - low)
        there = (np.array(corners).reshape(2, 2) + 0.5) / scale - 0.5 + low
        place: Box = tuple(there.ravel().tolist())
        return DetectedFace(self.detector.place(image, place), place, score)
