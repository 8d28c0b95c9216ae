r"""How a site's update travels: as a difference to the global weights, in few bytes.

A site sends Q(u) for the update u = w_site - w_global + r and keeps r <- u - Q(u), what the codec
lost, for its next update (error feedback). Nothing is lost for good that way, only late:

    | float32   every value as it is
    | float16   rounded to half precision
    | int8      each row of a matrix or convolution (one output channel) in 255 steps between plus
    |           and minus its largest magnitude, that magnitude beside it; vectors as float32

References:
    | 1-Bit Stochastic Gradient Descent (Seide et al., 2014): error feedback
    | Error Feedback Fixes SignSGD (Karimireddy et al., 2019)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.update import Layout, Signature, arrays_problem

__all__ = ["Arrays", "Codec", "Travelling", "compressed", "decoded", "encoded", "layout"]

Codec = Literal["float32", "float16", "int8"]
Arrays = dict[str, NDArray[np.float32]]
Travelling = dict[str, NDArray[Any]]

SCALE = "/scale"
"""Behind the name of an int8 array, that of its rows' steps."""
LEVELS = 127
HALF_MAX = float(np.finfo(np.float16).max)


def compressed(update: Mapping[str, NDArray[np.float32]], lost: Arrays, codec: Codec) -> Travelling:
    """``update`` and what was lost before, as they travel; ``lost`` becomes what is lost now.

    ``lost`` is changed in place; it is empty before the first update, and stays so with float32.
    """
    if codec == "float32":
        return encoded(update, codec)
    wanted = {name: value + lost[name] if lost else value for name, value in update.items()}
    travelling = encoded(wanted, codec)
    arrived = _decoded(travelling, {name: value.shape for name, value in wanted.items()}, codec)
    lost.clear()
    lost |= {name: value - arrived[name] for name, value in wanted.items()}
    return travelling


def encoded(update: Mapping[str, NDArray[np.float32]], codec: Codec) -> Travelling:
    """The arrays that travel for ``update``: `layout` says which."""
    match codec:
        case "float32":
            return {name: value.astype(np.float32) for name, value in update.items()}
        case "float16":
            return {
                name: value.clip(-HALF_MAX, HALF_MAX).astype(np.float16)
                for name, value in update.items()
            }
        case "int8":
            arrays: Travelling = {}
            for name, value in update.items():
                arrays |= _in_steps(name, value) if value.ndim > 1 else {name: value}
            return arrays
        case _:
            assert_never(codec)


def decoded(arrays: Mapping[str, NDArray[Any]], expected: Signature, codec: Codec) -> Arrays:
    """The update of ``expected`` names and shapes that ``arrays`` carry, float32.

    Raises:
        FederationError: naming the first array that is missing, unknown, of another shape or
            kind, or not finite.
    """
    problem = arrays_problem(arrays, layout(expected, codec))
    if problem is not None:
        raise FederationError(problem)
    return _decoded(arrays, expected, codec)


def layout(expected: Signature, codec: Codec) -> Layout:
    """Name, shape and kind of every array that travels for weights of ``expected`` shapes."""
    match codec:
        case "float32" | "float16":
            return {name: (shape, np.dtype(codec)) for name, shape in expected.items()}
        case "int8":
            arrays: Layout = {}
            for name, shape in expected.items():
                if len(shape) > 1:
                    arrays[name] = shape, np.dtype(np.int8)
                    arrays[name + SCALE] = shape[:1], np.dtype(np.float32)
                else:
                    arrays[name] = shape, np.dtype(np.float32)
            return arrays
        case _:
            assert_never(codec)


def _decoded(arrays: Mapping[str, NDArray[Any]], expected: Signature, codec: Codec) -> Arrays:
    values = {name: arrays[name].astype(np.float32) for name in expected}
    if codec == "int8":
        for name, value in values.items():
            if value.ndim > 1:
                with np.errstate(over="ignore"):  # a step that no honest site has; its norm tells
                    value *= _along_rows(arrays[name + SCALE], value)
    return values


def _in_steps(name: str, value: NDArray[np.float32]) -> Travelling:
    """Each row as whole steps from -LEVELS to LEVELS, and the size of a row's step."""
    sizes = np.abs(value).reshape(len(value), -1).max(axis=1, initial=0) / np.float32(LEVELS)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.rint(value / _along_rows(sizes, value))
    # A row of zeros has no step; one of the smallest numbers may have one that rounds to 0.
    steps = np.nan_to_num(steps, nan=0, posinf=0, neginf=0).clip(-LEVELS, LEVELS)
    return {name: steps.astype(np.int8), name + SCALE: sizes.astype(np.float32)}


def _along_rows(sizes: NDArray[np.float32], value: NDArray[np.float32]) -> NDArray[np.float32]:
    return sizes.reshape(-1, *[1] * (value.ndim - 1))
