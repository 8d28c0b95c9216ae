"""A third geometry, as anybody could add one, and faces for all geometries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import NUM_SHAPE, mean_shape, shape_basis
from facemorph_core.alignment.geometry import apply_affine, rescaling
from facemorph_core.latent.geometry import Geometry, Seen

SIZE = 64


class Sliding(Geometry):
    """Two numbers of a code are how far, in pixels, the landmarks lie off the mean shape."""

    numbers = 2

    @property
    def texture_landmarks(self) -> NDArray[np.float64]:
        return mean_shape()

    def see(self, frames: NDArray[np.uint8], landmarks: NDArray[Any]) -> Seen:
        points = np.asarray(landmarks, np.float32)
        away = np.rint((points - mean_shape(self.size)).mean(axis=1)).astype(np.float32)
        return _Slid(_rolled(frames, -away), away, points - away[:, None])

    def show(
        self, pictures: NDArray[np.uint8], shape: NDArray[np.floating[Any]]
    ) -> NDArray[np.uint8]:
        return _rolled(pictures, shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Slid(Seen):
    def places(self, points: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(points, np.float32) - self.shape[:, None, None]


def _rolled(pictures: NDArray[np.uint8], away: NDArray[Any]) -> NDArray[np.uint8]:
    pairs = zip(pictures, np.rint(away).astype(int)[:, ::-1], strict=True)
    return np.stack([np.roll(each, tuple(by), axis=(0, 1)) for each, by in pairs])


def faces(seed: int, count: int = 3) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Smooth colours, which a warp can carry there and back, and landmarks off the mean shape."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    waves = rng.uniform(1, 5, (count, 3, 2)) @ np.stack([x, y]).reshape(2, -1)
    values = 127.5 + 120 * np.sin(waves + rng.uniform(0, 6, (count, 3, 1)))
    pixels = values.reshape(count, 3, SIZE, SIZE).transpose(0, 2, 3, 1).round().astype(np.uint8)
    shapes = shape_basis().decode_shape(0.6 * rng.normal(size=(count, NUM_SHAPE)))
    slid = shapes + rng.uniform(-4, 4, (count, 1, 2))
    return pixels, apply_affine(rescaling(SIZE / 128), slid).astype(np.float32)
