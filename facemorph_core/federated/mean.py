r"""The mean of many updates, one at a time: memory for one of them, however many there are.

    mean = sum_i n_i u_i / sum_i n_i

Sums of floats depend on their order, and replies come in any. Each n_i u_i is therefore rounded
to a multiple of RESOLUTION and added as a whole number: the same replies give the same mean, bit
for bit, whoever was first. Its error is below RESOLUTION / 2 per image counted, far below float32
of any weight that matters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from facemorph_core.errors import FederationError
from facemorph_core.federated.update import Signature

RESOLUTION = 2.0**-30
_ROOM = 2.0**62
"""What a sum of 64-bit whole numbers may reach, with a factor of 2 to spare."""


class RunningMean:
    """The mean of updates weighted by images."""

    def __init__(self, expected: Signature) -> None:
        self.images, self.count = 0, 0
        self._largest = 0.0
        self._sums = {name: np.zeros(shape, np.int64) for name, shape in expected.items()}

    def add(self, update: Mapping[str, NDArray[np.float32]], images: int) -> None:
        """Take in an update of the expected shapes that stands for ``images`` images.

        Raises:
            FederationError: it is too large to be added; the mean is as before.
        """
        factor = images / RESOLUTION
        largest = max((float(np.abs(value).max(initial=0)) for value in update.values()), default=0)
        if self._largest + largest * factor > _ROOM:
            raise FederationError(f"the update is too large to be averaged ({largest:.3g})")
        for name, value in update.items():
            self._sums[name] += np.rint(value * np.float64(factor)).astype(np.int64)
        self._largest += largest * factor
        self.images += images
        self.count += 1

    def mean(self) -> dict[str, NDArray[np.float32]]:
        """The mean of what was added.

        Raises:
            FederationError: nothing was.
        """
        if not self.images:
            raise FederationError("there is no update to average")
        unit = RESOLUTION / self.images
        return {name: (total * unit).astype(np.float32) for name, total in self._sums.items()}
