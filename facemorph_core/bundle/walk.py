"""A graph walked node by node without being run: whether all of it fits, and what it takes.

What a runtime would do with a graph that does not fit is never found out, and how much memory one
takes is known before a byte of it is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.bundle.message import GraphRefused
from facemorph_core.bundle.operators import OPERATORS, Faces, Fixed, Sizes, Stored, Value
from facemorph_core.bundle.proto import onnx_pb2 as onnx

MAX_NODES = 512
"""Networks of ours have about 150, whatever their size."""
MAX_FACE_BYTES = 2**30
"""Of all that a graph computes of one face, as if no result ever made room for another.

Our decoder takes about (8.3 w + 200) S^2 bytes at width w and S x S pixels, the encoder less: 12
MiB where the largest of our recipes is (width 64, 128 px), so this is ninety times that. Any width
that fits a file fits at 128 px, width 99 at 1024 px.
"""
MAX_CONSTANT = 8
"""Numbers of a constant: one for each dimension, or for each group of a norm."""
_BLOCK = 16
"""Channels of the largest block in which ONNX Runtime lays out pictures."""

_TYPES = {
    onnx.AttributeProto.FLOAT: "f",
    onnx.AttributeProto.INT: "i",
    onnx.AttributeProto.STRING: "s",
    onnx.AttributeProto.INTS: "ints",
    onnx.AttributeProto.TENSOR: "t",
}
"""The field that holds an attribute's value."""
_DTYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype("<f4"),
    onnx.TensorProto.FLOAT16: np.dtype("<f2"),
    onnx.TensorProto.INT64: np.dtype("<i8"),
}


def walk(graph: onnx.GraphProto, given: tuple[str, Faces]) -> dict[str, Value]:
    """What the nodes of a graph make, by name.

    ``given`` is the graph's input, its shape that of one face. A node reads only what was there
    before it, and weights that no other node reads: a runtime packs them anew for each.

    Raises:
        GraphRefused: a node does what none of ours does, or with shapes that do not fit.
    """
    if len(graph.node) > MAX_NODES:
        raise GraphRefused(f"it has {len(graph.node)} nodes, more than {MAX_NODES}")
    known: dict[str, Value] = {}
    for name, value in (given, *((each.name, _weight(each)) for each in graph.initializer)):
        _define(known, name, value)
    before, used = len(known), set[str]()
    for node in graph.node:
        if len(node.output) != 1 or not known.keys() >= set(node.input):
            raise GraphRefused(f"{_called(node)} makes not one result, or reads what is not there")
        weights = [name for name in node.input if isinstance(known[name], Fixed | Stored)]
        if not used.isdisjoint(weights):
            raise GraphRefused(f"{_called(node)} reads weights that another node has read")
        used.update(weights)
        _define(known, node.output[0], _made(node, [known[name] for name in node.input]))
    return dict(list(known.items())[before:])


def face_bytes(made: Iterable[Value]) -> int:
    """Bytes that all results for one face take together at most.

    Raises:
        GraphRefused: they are more than MAX_FACE_BYTES.
    """
    taken = 4 * sum(_laid_out(value.shape) for value in made if isinstance(value, Faces))
    if taken > MAX_FACE_BYTES:
        raise GraphRefused(f"it takes {taken} bytes for one face, more than {MAX_FACE_BYTES}")
    return taken


def _weight(tensor: onnx.TensorProto) -> Value:
    """What an initialiser is to the nodes."""
    shape, dtype = tuple(tensor.dims), numbers_of(tensor).dtype
    if dtype == np.float32:
        return Fixed(shape)
    if dtype == np.float16:
        return Stored(shape)
    raise GraphRefused(f"its weight {tensor.name!r} is neither float32 nor float16")


def _constant(tensor: onnx.TensorProto) -> Value:
    values, shape = numbers_of(tensor), tuple(tensor.dims)
    if values.size > MAX_CONSTANT or len(shape) > 1:
        raise GraphRefused(f"it holds a constant of {values.size} numbers, not of a few")
    if values.dtype == np.int64:
        return Sizes(tuple(values.tolist())) if shape else Stored(())
    if values.dtype == np.float32:
        return Fixed(shape)
    raise GraphRefused("it holds a constant that is neither float32 nor int64")


def numbers_of(tensor: onnx.TensorProto) -> NDArray[Any]:
    """All numbers of a tensor, flat: finite, and as many as its dimensions say."""
    dtype = _DTYPES.get(tensor.data_type)
    if dtype is None or min(tensor.dims, default=1) < 1:
        raise GraphRefused(f"its tensor {tensor.name!r} is of another kind than ours")
    if len(tensor.raw_data) != math.prod(tensor.dims) * dtype.itemsize:
        raise GraphRefused(f"its tensor {tensor.name!r} has not the size that it states")
    values = np.frombuffer(tensor.raw_data, dtype)
    if not _is_finite(values):
        raise GraphRefused(f"its tensor {tensor.name!r} holds what is not a number")
    return values


def _is_finite(values: NDArray[Any]) -> bool:
    """As numpy's, by the exponent's bits: in half precision fifteen times as fast."""
    exponent = {np.dtype("<f2"): 0x7C00, np.dtype("<f4"): 0x7F800000}.get(values.dtype)
    if exponent is None:  # whole numbers
        return True
    bits = values.view(f"<u{values.itemsize}") & exponent
    return bool((bits < exponent).all())


def _define(known: dict[str, Value], name: str, value: Value) -> None:
    if not name or name in known:
        raise GraphRefused(f"{name!r} is made twice in it, or has no name")
    known[name] = value


def _made(node: onnx.NodeProto, inputs: Sequence[Value]) -> Value:
    """What a node makes of its inputs, by the rule of its operator."""
    attributes = {each.name: _attribute(each) for each in node.attribute}
    if len(attributes) != len(node.attribute):
        raise GraphRefused(f"{_called(node)} has an attribute twice")
    if node.op_type == "Constant":
        tensor = attributes.get("value")
        if inputs or len(attributes) != 1 or not isinstance(tensor, onnx.TensorProto):
            raise GraphRefused(f"{_called(node)} is no plain tensor")
        return _constant(tensor)
    known = OPERATORS.get(node.op_type)
    if known is None:
        raise GraphRefused(f"{_called(node)} is of an operator that none of ours has")
    _check_attributes(node, attributes, known.attributes)
    made = known.rule(inputs, attributes)
    if made is None:
        raise GraphRefused(f"{_called(node)} reads what it cannot have: {_shapes(inputs)}")
    return made


def _check_attributes(
    node: onnx.NodeProto, found: Mapping[str, Any], allowed: Mapping[str, Sequence[Any]]
) -> None:
    if found.keys() != allowed.keys():
        raise GraphRefused(f"{_called(node)} has other attributes than ours")
    for name, values in allowed.items():
        # the type as well: 1 equals 1.0, but not to a runtime
        if not any(type(found[name]) is type(each) and found[name] == each for each in values):
            raise GraphRefused(f"{_called(node)} has another {name} than ours")


def _attribute(attribute: onnx.AttributeProto) -> Any:
    """Its value, as a plain number, bytes, a tuple or a tensor."""
    key = _TYPES.get(attribute.type)
    if key is None or {field.name for field, _ in attribute.ListFields()} != {"name", "type", key}:
        raise GraphRefused(f"its attribute {attribute.name!r} is not of one kind")
    value = getattr(attribute, key)
    return tuple(value) if key == "ints" else value


def _called(node: onnx.NodeProto) -> str:
    return f"its {node.op_type!r} {node.name!r}"


def _shapes(values: Sequence[Value]) -> str:
    return ", ".join(map(str, values)) or "nothing"


def _laid_out(shape: tuple[int, ...]) -> int:
    """Numbers of one result in memory: pictures have their channels in whole blocks."""
    if len(shape) == 3:
        shape = (-(-shape[0] // _BLOCK) * _BLOCK, *shape[1:])
    return math.prod(shape)
