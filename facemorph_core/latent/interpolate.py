r"""Interpolation between two codes. Pure NumPy.

Convention: codes are (D,) floats, t runs from 0 (``a``) to 1 (``b``). Both ends are returned
exactly, and swapping a and b while t becomes 1 - t gives the same path.

References:
    | Animating Rotation with Quaternion Curves (Shoemake, 1985)
    | Sampling Generative Networks (White, 2016), https://arxiv.org/abs/1609.04468
"""

from __future__ import annotations

from typing import Any, assert_never

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facemorph_core.latent.interpolations import Interpolation

Code = NDArray[np.floating[Any]]

_TINY = 1e-6  # radians, and the share of a length: below it directions mean nothing


def lerp(a: Code, b: Code, t: float) -> Code:
    """The straight line, (1 - t) a + t b. Its middle is shorter than its ends."""
    return (1 - t) * a + t * b


def slerp(a: Code, b: Code, t: float) -> Code:
    """The great circle for the direction, a straight line for the length.

    Every length lies between those of the ends. Opposite codes turn through a direction that
    depends on them alone; where one has no length there is no direction to turn, and it is `lerp`.
    """
    if t in (0, 1):
        return (a if t == 0 else b).copy()
    dtype = np.result_type(a, b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if min(length_a, length_b) <= _TINY * max(length_a, length_b):
        return lerp(a, b, t).astype(dtype)
    u, v = a / length_a, b / length_b
    # the half-angle form keeps its precision at 0 and pi, where arccos loses it
    angle = 2 * float(np.arctan2(np.linalg.norm(v - u), np.linalg.norm(v + u)))
    length = (1 - t) * length_a + t * length_b
    return (length * _turned(u, v, angle, t)).astype(dtype)


def path(a: Code, b: Code, alphas: ArrayLike, kind: Interpolation = "lerp") -> Code:
    """The codes at each of ``alphas``, (n, D)."""
    match kind:
        case "lerp":
            between = lerp
        case "slerp":
            between = slerp
        case _:
            assert_never(kind)
    return np.stack([between(a, b, float(t)) for t in np.asarray(alphas)])


def _turned(u: Code, v: Code, angle: float, t: float) -> Code:
    """The unit vector that is the share ``t`` of ``angle`` away from ``u`` towards ``v``."""
    if angle < _TINY:
        mixed = lerp(u, v, t)
        return mixed / np.linalg.norm(mixed)
    if angle > np.pi - _TINY:
        return np.cos(t * np.pi) * u + np.sin(t * np.pi) * _across(u)
    return (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)


def _across(u: Code) -> Code:
    """A unit vector at a right angle to ``u``, the same for ``u`` and ``-u``."""
    axis = np.zeros_like(u)
    axis[np.argmin(np.abs(u))] = 1
    across = axis - (axis @ u) * u
    return across / np.linalg.norm(across)
