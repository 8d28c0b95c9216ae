r"""Tight framing: the same faces from above the brows to the chin, eyes 50 px apart.

One fixed similarity takes the canonical frame there, so that the whole picture lies inside it: it
enlarges by 50/36 about the middle of the frame's lower edge. What is enlarged is smoother than a
photo cropped so would be: compare figures within a framing, never across framings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import EYE_DISTANCE, FRAME_SIZE
from facemorph_core.alignment.geometry import Affine, apply_affine, similarity
from facemorph_core.alignment.resample import resample
from facemorph_core.shards.shard import Shard

__all__ = ["TightFaces", "tightened", "tightened_landmarks"]

TIGHT_EYE_DISTANCE = 50.0  # pixels of a frame of FRAME_SIZE


class TightFaces:
    """The faces of a shard in tight framing, wherever a shard's faces are read."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    @property
    def people(self) -> list[str]:
        return self._shard.people

    @property
    def size(self) -> int:
        return self._shard.size

    def rows(self, split: str) -> NDArray[np.int64]:
        return self._shard.rows(split)

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return tightened(self._shard.images(rows))

    def landmarks(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return tightened_landmarks(self._shard.landmarks(rows), size=self.size)


def tightened(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Faces in the frame (n, S, S, 3) -> as many of the same size in tight framing."""
    side = frames.shape[1]
    matrix = _tightening(side)
    shown = [resample(frame, matrix, size=(side, side)) for frame in frames]
    return np.array(shown, np.uint8).reshape(frames.shape)


def tightened_landmarks(
    landmarks: NDArray[np.floating[Any]], *, size: int = FRAME_SIZE
) -> NDArray[np.float32]:
    """Landmarks (n, 68, 2) of faces in the frame -> where they lie in tight framing."""
    flat = landmarks.reshape(-1, 2).astype(np.float64)
    return apply_affine(_tightening(size), flat).reshape(landmarks.shape).astype(np.float32)


def _tightening(size: int) -> Affine:
    """Frame -> tight framing: the middle of the lower edge stays."""
    scale = TIGHT_EYE_DISTANCE / EYE_DISTANCE
    x, y = (size - 1) / 2, size - 0.5
    return similarity(0.0, scale, ((1 - scale) * x, (1 - scale) * y))
