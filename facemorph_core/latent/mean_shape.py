r"""The ``mean_shape`` geometry: the first NUM_SHAPE numbers of a code are the face's shape.

They hold the landmarks in the shipped shape basis. The networks see the face warped to the mean
shape, and a decoded texture is warped back by those numbers: interpolating a code then moves
features instead of fading them. The warp reads the shape's *numbers*, never the landmarks
themselves.

References:
    | Active Appearance Models (Cootes, Edwards & Taylor, 2001)
    | Deforming Autoencoders (Shu et al., 2018)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import FRAME_SIZE, NUM_SHAPE, mean_shape, shape_basis
from facemorph_core.alignment.geometry import Points, apply_affine, rescaling
from facemorph_core.latent.base import Geometry, Seen

__all__ = ["MeanShape"]

FARTHEST = 4.0
"""Shape numbers are cut here, standard deviations: beyond it a detector has failed."""


class MeanShape(Geometry):
    """Numbers of the shape, then those of the texture in the mean shape."""

    numbers = NUM_SHAPE

    @property
    def texture_landmarks(self) -> Points:
        """The mean shape."""
        return mean_shape()

    def see(self, frames: NDArray[np.uint8], landmarks: NDArray[Any]) -> Seen:
        """Every face's eyes, lips and jaw at the same pixels."""
        from facemorph_core.alignment import warp  # loads OpenCV

        points = np.asarray(landmarks, np.float32)
        shape = self._shape_of(points)
        fields = warp.displacements(self._landmarks_of(shape), self.size)
        there = np.broadcast_to(mean_shape(self.size).astype(np.float32), points.shape)
        return _Warped(warp.to_mean_shape(frames, fields), shape, there, fields)

    def show(
        self, pictures: NDArray[np.uint8], shape: NDArray[np.floating[Any]]
    ) -> NDArray[np.uint8]:
        """The textures, warped to where the numbers put the landmarks."""
        from facemorph_core.alignment import warp

        return warp.to_frame(pictures, warp.displacements(self._landmarks_of(shape), self.size))

    def _shape_of(self, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        points = apply_affine(rescaling(FRAME_SIZE / self.size), landmarks.astype(np.float64))
        found = shape_basis().encode_shape(points)
        return np.clip(found, -FARTHEST, FARTHEST).astype(np.float32)

    def _landmarks_of(self, shape: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        points = shape_basis().decode_shape(shape.astype(np.float64))
        return apply_affine(rescaling(self.size / FRAME_SIZE), points)


@dataclass(frozen=True, slots=True, eq=False)
class _Warped(Seen):
    """Faces in the mean shape."""

    fields: NDArray[np.float32]
    """(n, S, S, 2) the warp's displacements, see `alignment.warp`."""

    @property
    def areas(self) -> NDArray[np.float32]:
        from facemorph_core.alignment import warp

        return warp.areas(self.fields)

    def places(self, points: NDArray[Any]) -> NDArray[np.float32]:
        from facemorph_core.alignment import warp

        return warp.found_in_texture(points, self.fields)
