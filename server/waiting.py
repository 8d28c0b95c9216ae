"""Updates that wait for the end of their round: on the disk, so that memory holds one of them.

Only when all are there is it known how much each may count (`server.bounds`), and they are added
in one order, whoever was first. The file has no name: a kill leaves nothing behind.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from facemorph_core.learning.federated.codec import Travelling
from facemorph_core.learning.federated.update import Layout


class Waiting:
    """Arrays of one layout for each of many sites, as they travelled."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self.layout, self.folder = layout, folder
        self._file: BinaryIO | None = None
        self._places: dict[Hashable, int] = {}

    def put(self, site: Hashable, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a site's arrays, which are of the layout."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115  see close
        self._places[site] = self._file.seek(0, 2)
        for name in self.layout:
            self._file.write(arrays[name].tobytes())

    def get(self, site: Hashable) -> Travelling:
        """The arrays of a site that were put here."""
        assert self._file is not None, "nothing was put here"
        self._file.seek(self._places[site])
        arrays = {}
        for name, (shape, kind) in self.layout.items():
            numbers = self._file.read(math.prod(shape) * kind.itemsize)
            arrays[name] = np.frombuffer(numbers, kind).reshape(shape)
        return arrays

    def close(self) -> None:
        """Give the disk back."""
        if self._file is not None:
            self._file.close()
