"""The operators that our exporter writes, with their attributes, and the shapes that they make.

A graph is walked without being run, so that its memory is known before anything is allocated.
What a node reads or makes is one of four things: faces (one array of a fixed shape for each),
arrays that are the same for all faces, those as they are stored, and sizes. No rule lets two
things be spread against each other into a larger one, and none computes with the number of faces:
what a graph takes is what it takes for one face, times their number.

Convention: shapes of faces leave out the leading number of faces.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facemorph_core.bundle.proto import onnx_pb2 as onnx

Shape = tuple[int, ...]
MAX_SIZE = 2**31
"""Of a number that a graph computes sizes with."""
_EPSILON = float(np.float32(1e-5))


@dataclass(frozen=True, slots=True)
class Faces:
    """One float32 array for each face."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Fixed:
    """A float32 array that is the same for all faces."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Stored:
    """What has to pass through a Cast first: weights in half precision, a bound of Clip."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers that stand for sizes and places; None is the number of faces."""

    values: tuple[int | None, ...]


Value = Faces | Fixed | Stored | Sizes
Attributes = Mapping[str, Any]
Rule = Callable[[Sequence[Value], Attributes], Value | None]
"""What a node makes of its inputs; None if an input is none that it may have."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A rule, and for every attribute the values that it may have."""

    rule: Rule
    attributes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


def _same(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    match inputs:
        case [Faces() as faces]:
            return faces
    return None


def _cast(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    match inputs:
        case [Faces() as faces]:
            return faces
        case [Stored(shape)]:
            return Fixed(shape)
    return None


def _clip(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    match inputs:
        case [Faces() as faces, Fixed(()), Fixed(())]:
            return faces
    return None


def _joined(compute: Callable[[int, int], int]) -> Rule:
    """Faces with faces, or with one number a channel; or sizes with sizes."""

    def rule(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
        match inputs:
            case [Faces(shape), Faces(other)] if shape == other:
                return Faces(shape)
            case [Faces((channels, _, _) as shape), Fixed((other, 1, 1))] if channels == other:
                return Faces(shape)
        return _computed(compute, inputs)

    return rule


def _divided(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    return _computed(operator.floordiv, inputs)


def _computed(compute: Callable[[int, int], int], inputs: Sequence[Value]) -> Value | None:
    """None where a number is that of faces, or one that runtimes may see differently."""
    match inputs:
        case [Sizes(some), Sizes(others)] if len(some) == len(others):
            least = 1 if compute is operator.floordiv else 0
            made = tuple(
                compute(one, other)
                for one, other in zip(some, others, strict=True)
                if one is not None and other is not None and one >= 0 and other >= least
            )
            if len(made) == len(some) and max(made, default=0) < MAX_SIZE:
                return Sizes(made)
    return None


def _convolved(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    kernel, stride, pad = (attributes[key][0] for key in ("kernel_shape", "strides", "pads"))
    match inputs:
        case [Faces((channels, *sides)), Fixed((made, taken, high, wide)), Fixed((biases,))] if (
            len(sides) == 2 and (channels, made) == (taken, biases) and high == wide == kernel
        ):
            shape = (made, *((side + 2 * pad - kernel) // stride + 1 for side in sides))
            return Faces(shape) if min(shape) > 0 else None
    return None


def _multiplied(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    match inputs:
        case [Faces((features,)), Fixed((made, taken)), Fixed((biases,))] if (features, made) == (
            taken,
            biases,
        ):
            return Faces((made,))
    return None


def _normalised(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    match inputs:
        case [Faces((groups, _) as shape), Fixed((scales,)), Fixed((biases,))] if (
            groups == scales == biases
        ):
            return Faces(shape)
    return None


def _shuffled(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    block = attributes["blocksize"]
    match inputs:
        case [Faces((channels, high, wide))] if channels % block**2 == 0:
            return Faces((channels // block**2, high * block, wide * block))
    return None


def _flat(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    match inputs:
        case [Faces(shape)]:
            return Faces((math.prod(shape),))
    return None


def _transposed(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    _, *order = attributes["perm"]
    match inputs:
        case [Faces(shape)] if len(shape) == len(order):
            return Faces(tuple(shape[place - 1] for place in order))
    return None


def _unsqueezed(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    """One number a channel, so that it meets a picture's channels."""
    match inputs:
        case [Fixed((channels,)), Sizes((1, 2))]:
            return Fixed((channels, 1, 1))
    return None


def _sizes(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    match inputs:
        case [Faces(shape)]:
            return Sizes((None, *shape))
    return None


def _gathered(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    match inputs:
        case [Sizes(values), Sizes(places)]:
            known = [each for each in places if each is not None and 0 <= each < len(values)]
            if len(known) == len(places):
                return Sizes(tuple(values[each] for each in known))
    return None


def _sliced(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    match inputs:
        case [Faces((features,)), Sizes((int(start),)), Sizes((int(end),)), Sizes((1,))] if (
            0 <= start < end <= features
        ):
            return Faces((end - start,))
    return None


def _reshaped(inputs: Sequence[Value], attributes: Attributes) -> Value | None:
    """The first size has to be the faces', whichever of the three ways it is written."""
    match inputs:
        case [Faces(shape), Sizes((None | 0 | -1 as first, *sizes))]:
            made = [
                shape[place] if size == 0 and place < len(shape) else size
                for place, size in enumerate(sizes)
            ]
            if first != -1 and made.count(-1) == 1:
                known = -math.prod(each for each in made if each is not None)
                made[made.index(-1)] = math.prod(shape) // known if known > 0 else 0
            found = tuple(each for each in made if each is not None and each > 0)
            if len(found) == len(made) and math.prod(found) == math.prod(shape):
                return Faces(found)
    return None


OPERATORS: Mapping[str, Operator] = {
    "Add": Operator(_joined(operator.add)),
    "Cast": Operator(_cast, {"to": (onnx.TensorProto.FLOAT,)}),
    "Clip": Operator(_clip),
    "Conv": Operator(
        _convolved,
        {
            "dilations": ((1, 1),),
            "group": (1,),
            "kernel_shape": ((1, 1), (3, 3)),
            "pads": ((0, 0, 0, 0), (1, 1, 1, 1)),
            "strides": ((1, 1), (2, 2)),
        },
    ),
    "DepthToSpace": Operator(_shuffled, {"blocksize": (2, 4), "mode": (b"CRD",)}),
    "Div": Operator(_divided),
    "Flatten": Operator(_flat, {"axis": (1,)}),
    "Gather": Operator(_gathered, {"axis": (0,)}),
    "Gemm": Operator(_multiplied, {"alpha": (1.0,), "beta": (1.0,), "transB": (1,)}),
    "InstanceNormalization": Operator(_normalised, {"epsilon": (_EPSILON,)}),
    "Mul": Operator(_joined(operator.mul)),
    "Reshape": Operator(_reshaped, {"allowzero": (0,)}),
    "Shape": Operator(_sizes),
    "Sigmoid": Operator(_same),
    "Slice": Operator(_sliced),
    "Transpose": Operator(_transposed, {"perm": ((0, 1, 3, 5, 2, 4),)}),
    "Unsqueeze": Operator(_unsqueezed),
}
"""All but Constant, which reads nothing: `walk` looks at its tensor."""
