"""A picture at its own size and at halves of it, each made when it is asked for."""

from __future__ import annotations

import threading

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Halvings"]

LONGEST_SIDE = 32766
"""Pixels that OpenCV can address."""


class Halvings:
    """The picture (H, W, C) shrunk by powers of two; threads may share it."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pictures, self._lock = [pixels], threading.Lock()
        self._first = 0
        while max(self._pictures[self._first].shape) > LONGEST_SIDE:
            self._first += 1
            self.nearest(self._first)

    def nearest(self, halvings: int) -> tuple[int, NDArray[np.uint8]]:
        """The picture nearest to this number of halvings that there is, with its own number."""
        with self._lock:
            while len(self._pictures) <= halvings and min(self._pictures[-1].shape[:2]) > 1:
                finer = self._pictures[-1]
                size = (finer.shape[1] + 1) // 2, (finer.shape[0] + 1) // 2
                coarser = cv2.resize(finer, size, interpolation=cv2.INTER_AREA)
                self._pictures.append(np.asarray(coarser, np.uint8).reshape(*size[::-1], -1))
        there = min(max(halvings, self._first), len(self._pictures) - 1)
        return there, self._pictures[there]
