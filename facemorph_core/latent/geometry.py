r"""What of a code is shape and what is texture, and what the networks see of a face.

A code is the shape's numbers, then the networks' own. The ``plain`` geometry has no shape: the
networks see the frame as it is. Under ``mean_shape`` the first NUM_SHAPE numbers hold the
landmarks in the shipped shape basis, the networks see the face warped to the mean shape, and a
decoded texture is warped back by those numbers: interpolating a code then moves features instead
of fading them. The warp reads the shape's *numbers*, never the landmarks themselves, so nothing
but the code is needed to draw the face again.

References:
    | Active Appearance Models (Cootes, Edwards & Taylor, 2001)
    | Deforming Autoencoders (Shu et al., 2018)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import (
    FRAME_SIZE,
    NUM_SHAPE,
    mean_shape,
    shape_basis,
)
from facemorph_core.alignment.geometry import apply_affine, rescaling

__all__ = ["Geometry", "GeometryKind", "Seen", "geometry_of", "network_numbers", "shape_numbers"]

GeometryKind = Literal["plain", "mean_shape"]

FARTHEST = 4.0
"""Shape numbers are cut here, standard deviations: beyond it a detector has failed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the networks see of n faces, and what goes around them."""

    pixels: NDArray[np.uint8]
    """(n, S, S, 3) the pictures for the encoder."""
    shape: NDArray[np.float32]
    """(n, K) the shape's numbers, K = 0 for plain."""
    landmarks: NDArray[np.float32]
    """(n, 68, 2) where the landmarks lie in ``pixels``."""
    fields: NDArray[np.float32] | None = None
    """(n, S, S, 2) the warp's displacements, see `alignment.warp`; None without a warp."""

    def first(self, count: int) -> Seen:
        """The first ``count`` faces."""
        fields = None if self.fields is None else self.fields[:count]
        return Seen(self.pixels[:count], self.shape[:count], self.landmarks[:count], fields)

    @property
    def areas(self) -> NDArray[np.float32]:
        """(n, S, S) pixels of the frame that each pixel covers.

        Weighing an error by it counts the error in the frame.
        """
        if self.fields is None:
            return np.ones(self.pixels.shape[:3], np.float32)
        from facemorph_core.alignment import warp  # loads OpenCV

        return warp.areas(self.fields)


@dataclass(frozen=True, slots=True)
class Geometry:
    """One of the two ways, for pictures of ``size`` pixels a side."""

    kind: GeometryKind
    size: int

    @property
    def numbers(self) -> int:
        """How many numbers of a code are shape."""
        return shape_numbers(self.kind)

    def see(self, frames: NDArray[np.uint8], landmarks: NDArray[Any]) -> Seen:
        """Faces in the frame (n, S, S, 3) with their landmarks (n, 68, 2), as the networks do."""
        points = np.asarray(landmarks, np.float32)
        if self.kind == "plain":
            return Seen(frames, np.zeros((len(frames), 0), np.float32), points)
        from facemorph_core.alignment import warp

        shape = self._shape_of(points)
        fields = warp.displacements(self._landmarks_of(shape), self.size)
        there = np.broadcast_to(mean_shape(self.size).astype(np.float32), points.shape)
        return Seen(warp.to_mean_shape(frames, fields), shape, there, fields)

    def show(
        self, pictures: NDArray[np.uint8], shape: NDArray[np.floating[Any]]
    ) -> NDArray[np.uint8]:
        """What a decoder drew (n, S, S, 3), in the frame; ``shape`` as in `Seen`."""
        if self.kind == "plain":
            return pictures
        from facemorph_core.alignment import warp

        return warp.to_frame(pictures, warp.displacements(self._landmarks_of(shape), self.size))

    def places(self, points: NDArray[Any], seen: Seen) -> NDArray[np.float32]:
        """Where in each picture of ``seen`` the points (h, w, 2) of the frame lie: (n, h, w, 2)."""
        if seen.fields is None:
            return np.repeat(np.asarray(points, np.float32)[None], len(seen.pixels), axis=0)
        from facemorph_core.alignment import warp

        return warp.found_in_texture(points, seen.fields)

    def split(
        self, codes: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """Codes (n, D) as shape (n, K) and what the networks read (n, D - K)."""
        return codes[:, : self.numbers], codes[:, self.numbers :]

    def join(
        self, shape: NDArray[np.floating[Any]], texture: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        """The inverse of `split`."""
        return np.concatenate([shape, texture], axis=1).astype(np.float32)

    def _shape_of(self, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        points = apply_affine(rescaling(FRAME_SIZE / self.size), landmarks.astype(np.float64))
        found = shape_basis().encode_shape(points)
        return np.clip(found, -FARTHEST, FARTHEST).astype(np.float32)

    def _landmarks_of(self, shape: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        points = shape_basis().decode_shape(shape.astype(np.float64))
        return apply_affine(rescaling(self.size / FRAME_SIZE), points)


def geometry_of(kind: GeometryKind, size: int) -> Geometry:
    """The geometry of a model for pictures of ``size`` pixels."""
    return Geometry(kind, size)


def network_numbers(latent_dim: int, kind: GeometryKind) -> int:
    """How many numbers of a code the networks make: all, or all but the shape's.

    Raises:
        ValueError: there is none left.
    """
    left = latent_dim - shape_numbers(kind)
    if left < 1:
        raise ValueError(
            f"latent_dim {latent_dim} leaves no number for the texture: "
            f"{shape_numbers(kind)} are the shape's"
        )
    return left


def shape_numbers(kind: GeometryKind) -> int:
    """How many numbers of a code are shape."""
    return NUM_SHAPE if kind == "mean_shape" else 0
