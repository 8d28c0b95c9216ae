r"""When what changes: curves over a morph, and steps of equal size to the eye.

Convention: a curve maps alpha in [0, 1] to [0, 1], keeps both ends and never goes back.

    linear  the same pace throughout
    smooth  slow at both ends, 3 a^2 - 2 a^3
    early   most of it first, 1 - (1 - a)^2
    late    most of it last, a^2
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from facemorph_core.morphing.choices import Curve

__all__ = ["CURVES", "bent", "equal_steps"]

Alphas = NDArray[np.float64]

CURVES: dict[Curve, Callable[[Alphas], Alphas]] = {
    "linear": lambda alpha: alpha,
    "smooth": lambda alpha: alpha * alpha * (3 - 2 * alpha),
    "early": lambda alpha: 1 - (1 - alpha) ** 2,
    "late": lambda alpha: alpha * alpha,
}

PROBES = 21
"""Frames that are looked at for steps of equal size."""
PASSES = 2
"""How often they are spaced anew."""


def bent(alphas: Alphas, curve: Curve) -> Alphas:
    """``alphas`` (n,) along ``curve``."""
    return np.asarray(CURVES[curve](alphas), np.float64)


def equal_steps(changes: Callable[[Alphas], NDArray[np.float64]], count: int) -> Alphas:
    """``count`` alphas from 0 to 1 between which frames change by equal amounts to the eye.

    ``changes`` says for alphas (n,) how much the frame at each differs from that at the one before,
    (n - 1,), as a squared distance: twice as far along is four times as much.
    """
    even = found = np.linspace(0, 1, PROBES)
    for _ in range(PASSES):
        way = np.concatenate([[0.0], np.cumsum(np.sqrt(changes(found)))])
        if way[-1] == 0:  # one picture throughout
            break
        found = np.interp(even * way[-1], way, found)
        found[[0, -1]] = 0, 1
    return np.interp(np.linspace(0, 1, count), even, found)
