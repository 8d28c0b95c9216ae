"""What the benchmark compares: ways to keep a face in some numbers.

Faces are (n, S, S, 3) uint8 in the canonical frame with landmarks (n, 68, 2); codes are (n, D).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Facts", "Method", "standard_normal"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a method cost."""

    numbers: int
    """Numbers in a code."""
    parameters: int
    """Numbers in the method itself: weights, bases, means."""
    images_seen: int
    """Faces read while it was fitted, each as often as it was read."""
    seconds: float
    """Wall clock of the fit, without evaluation."""
    note: str = ""
    """What a reader of the table must know."""

    def fitted(self, steps: int) -> Facts:
        """Those of the same method when each code is fitted to its face."""
        return replace(self, note=f"{self.note}; Gauss-Newton steps a face: {steps}")


class Method(Protocol):
    """One way to keep a face in some numbers."""

    @property
    def name(self) -> str:
        """Row of the table, such as "PCA-128"."""

    @property
    def facts(self) -> Facts:
        """What it cost."""

    def encode(
        self, pixels: NDArray[np.uint8], landmarks: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        """Codes (n, D) of faces in the frame."""

    def decode(self, codes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """The faces (n, S, S, 3) of codes, in the frame."""

    def sample(self, count: int, *, seed: int) -> NDArray[np.float32] | None:
        """``count`` codes from its prior; None if it has none."""


def standard_normal(count: int, numbers: int, *, seed: int) -> NDArray[np.float32]:
    """``count`` codes from N(0, I)."""
    drawn = np.random.default_rng(seed).standard_normal((count, numbers))
    return drawn.astype(np.float32)
