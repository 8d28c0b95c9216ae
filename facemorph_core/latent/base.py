"""What a geometry is: how the numbers of a code are shared between a face's shape and its texture.

A code is the shape's numbers, then the networks' own. The networks see a face as the geometry
shows it to them, and what the decoder draws is brought back to the frame by the shape's numbers:
nothing but the code is needed to draw the face again.

A further geometry is a file like `latent.mean_shape`, entered in `latent.geometry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.geometry import Points

__all__ = ["Geometry", "Seen"]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the networks see of n faces: the frame as it is, unless a subclass says otherwise.

    The fields of a subclass are arrays of one entry a face too.
    """

    pixels: NDArray[np.uint8]
    """(n, S, S, 3) the pictures for the encoder."""
    shape: NDArray[np.float32]
    """(n, K) the shape's numbers."""
    landmarks: NDArray[np.float32]
    """(n, 68, 2) where the landmarks lie in ``pixels``."""

    def first(self, count: int) -> Seen:
        """The first ``count`` faces."""
        return type(self)(*(getattr(self, each.name)[:count] for each in fields(self)))

    @property
    def areas(self) -> NDArray[np.float32]:
        """(n, S, S) pixels of the frame that each pixel covers.

        Weighing an error by it counts the error in the frame.
        """
        return np.ones(self.pixels.shape[:3], np.float32)

    def places(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """Where in each of the pictures the points (h, w, 2) of the frame lie: (n, h, w, 2)."""
        return np.repeat(np.asarray(points, np.float32)[None], len(self.pixels), axis=0)


@dataclass(frozen=True, slots=True)
class Geometry(ABC):
    """One way to split codes, for pictures of ``size`` pixels a side.

    Examples:
        >>> from facemorph_core.latent.geometry import geometry_of
        >>> geometry = geometry_of("mean_shape", 128)
        >>> shape, texture = geometry.split(np.zeros((2, 128)))
        >>> shape.shape, texture.shape, geometry.join(shape, texture).shape
        ((2, 24), (2, 104), (2, 128))
    """

    numbers: ClassVar[int]
    """How many numbers of a code are shape; with any, `see` needs the landmarks of each face."""

    size: int

    @property
    @abstractmethod
    def texture_landmarks(self) -> Points | None:
        """(68, 2) where the landmarks lie in all textures, in pixels of a frame of FRAME_SIZE.

        None: where each face has them.
        """

    @abstractmethod
    def see(self, frames: NDArray[np.uint8], landmarks: NDArray[Any]) -> Seen:
        """Faces in the frame (n, S, S, 3) with their landmarks (n, 68, 2), as the networks do."""

    @abstractmethod
    def show(
        self, pictures: NDArray[np.uint8], shape: NDArray[np.floating[Any]]
    ) -> NDArray[np.uint8]:
        """What a decoder drew (n, S, S, 3), in the frame; ``shape`` as in `Seen`."""

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
