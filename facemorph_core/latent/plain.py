"""The ``plain`` geometry: a code has no shape, and the networks see the frame as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.latent.base import Geometry, Seen

__all__ = ["Plain"]


class Plain(Geometry):
    """All numbers of a code are the networks' own."""

    numbers = 0
    texture_landmarks = None

    def see(self, frames: NDArray[np.uint8], landmarks: NDArray[Any]) -> Seen:
        """The frames themselves."""
        no_shape = np.zeros((len(frames), 0), np.float32)
        return Seen(frames, no_shape, np.asarray(landmarks, np.float32))

    def show(
        self, pictures: NDArray[np.uint8], shape: NDArray[np.floating[Any]]
    ) -> NDArray[np.uint8]:
        """The pictures themselves."""
        return pictures
