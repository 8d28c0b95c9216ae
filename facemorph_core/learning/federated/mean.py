r"""The mean of many updates, one at a time: memory for one of them, however many there are.

    mean = sum_i n_i u_i / sum_i n_i

A sum of floats depends on its order: whoever adds does so in one of its own, not in that of
arrival. In float64 no sum of float32 numbers overflows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.update import Signature


class RunningMean:
    """The mean of updates weighted by images."""

    def __init__(self, expected: Signature) -> None:
        self.images = 0
        self._sums = {name: np.zeros(shape, np.float64) for name, shape in expected.items()}

    def add(self, update: Mapping[str, NDArray[np.float32]], images: int) -> None:
        """Take in an update of the expected shapes that stands for ``images`` images."""
        for name, value in update.items():
            self._sums[name] += value * np.float64(images)
        self.images += images

    def mean(self) -> dict[str, NDArray[np.float32]]:
        """The mean of what was added.

        Raises:
            FederationError: nothing was.
        """
        if not self.images:
            raise FederationError("there is no update to average")
        return {
            name: (total / self.images).astype(np.float32) for name, total in self._sums.items()
        }
