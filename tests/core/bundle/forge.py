"""Bundles as a hostile author would write them: whatever is in them, every checksum fits."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

from facemorph_core.bundle.archive import pack, unpack
from facemorph_core.bundle.manifest import MANIFEST, MEMBERS
from facemorph_core.bundle.operators import OPERATORS, Operator


def contents(path: Path) -> dict[str, bytes]:
    return {name: bytes(data) for name, data in unpack(path.read_bytes()).items()}


def graph_of(path: Path, member: str) -> onnx.ModelProto:
    return onnx.load_model_from_string(contents(path)[member])


def forged(path: Path, folder: Path, **changes: bytes) -> Path:
    """The bundle ``path`` with other members, as ``folder``/forged.facemorph.

    Members are named without their suffix; ``manifest`` replaces fields of the manifest (JSON),
    ``manifest_text`` is put in the place of the whole text, after its %s are the members' facts.
    """
    members = contents(path)
    fields, text = json.loads(changes.pop("manifest", b"{}")), changes.pop("manifest_text", None)
    for name in MEMBERS:
        members[name] = changes.pop(name.partition(".")[0], members[name])
    manifest = json.loads(members[MANIFEST]) | fields
    for name in MEMBERS:
        digest = hashlib.sha256(members[name]).hexdigest()
        manifest["members"][name] = {"sha256": digest, "size": len(members[name])}
    members[MANIFEST] = json.dumps(manifest).encode() if text is None else text
    out = folder / "forged.facemorph"
    out.write_bytes(pack(members))
    return out


class Watch:
    """Who opens a file in ``folder``, from whatever language: the kernel tells (inotify)."""

    OPENED = 0x20  # IN_OPEN

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.events = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.events >= 0
        assert libc.inotify_add_watch(self.events, bytes(folder), self.OPENED) >= 0

    def opened(self) -> bool:
        """Whether a file was opened since the last question."""
        try:
            return bool(os.read(self.events, 65536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self.events)


# --- mutations of a graph ----------------------------------------------------------------------

Mutation = Callable[[onnx.ModelProto, random.Random, list[str]], None]
"""Changes a graph in place; the strings are names under which a secret file can be opened."""
_NUMBERS = (0, 1, -1, 2, 3, 8, 10, 64, 2**20, 2**31 - 1, 2**31, -(2**31), 2**62, -(2**63))
_ENDLESS = (0.0, 1.0, -1.0, 1e30, float("inf"), float("-inf"), float("nan"))
_WORDS = ("", "n", "value", "images", "code", "evil", "com.microsoft", "/etc/hostname", "x" * 99)
_OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas()})


def elsewhere(location: str, *, numbers: int = 64, dtype: int = TensorProto.UINT8) -> TensorProto:
    """A tensor that lies in another file."""
    tensor = TensorProto(name="leak", dims=[numbers], data_type=dtype)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def sparse_constant(location: str, *, numbers: int, name: str = "leak") -> onnx.NodeProto:
    """A Constant whose sparse value lies in another file."""
    places = numpy_helper.from_array(np.arange(numbers, dtype=np.int64), "places")
    values = elsewhere(location, numbers=numbers)
    node = onnx.NodeProto(op_type="Constant", output=[name], name=name)
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    sparse = onnx.SparseTensorProto(values=values, indices=places, dims=[numbers])
    attribute.sparse_tensor.CopyFrom(sparse)
    return node


def messages(message: Message) -> Iterator[Message]:
    """A message and all that lie in it."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from messages(inner)


def _set_any_field(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    """Any field that the descriptors know, in any message."""
    message = rng.choice(list(messages(model)))
    _set(message, rng.choice(message.DESCRIPTOR.fields), rng, secrets, depth=2)


def _set(
    message: Message, field: Any, rng: random.Random, secrets: list[str], *, depth: int
) -> None:
    held = getattr(message, field.name)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        inner = held if isinstance(held, Message) else held.add()
        inner.SetInParent()
        if isinstance(inner, TensorProto):
            inner.CopyFrom(elsewhere(rng.choice(secrets)))
        elif depth:
            fields = list(inner.DESCRIPTOR.fields)
            for each in rng.sample(fields, min(3, len(fields))):
                _set(inner, each, rng, secrets, depth=depth - 1)
        return
    value: Any
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            value = rng.randbytes(rng.randrange(40))
        case FieldDescriptor.CPPTYPE_STRING:
            value = rng.choice((*_WORDS, *secrets))
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            value = rng.choice(_ENDLESS)
        case FieldDescriptor.CPPTYPE_ENUM:
            value = rng.choice(field.enum_type.values).number
        case FieldDescriptor.CPPTYPE_INT32:
            value = rng.choice([each for each in _NUMBERS if -(2**31) <= each < 2**31])
        case FieldDescriptor.CPPTYPE_UINT64:
            value = rng.choice([each for each in _NUMBERS if each >= 0])
        case _:
            value = rng.choice(_NUMBERS)
    if isinstance(held, str | bytes | int | float):
        setattr(message, field.name, value)
    elif held and rng.random() < 0.7:
        held[rng.randrange(len(held))] = value
    else:
        held.append(value)


def _another_operator(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    node = rng.choice(model.graph.node)
    node.op_type = rng.choice(_OPERATORS)
    if rng.random() < 0.5:
        del node.attribute[:]


def _grown(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    """A result made as large as a graph can say."""
    size = np.array(rng.choice(((2**30,), (2**20, 2**12), (1, 3, 2**14, 2**14))), np.int64)
    places = [place for place, node in enumerate(model.graph.node) if node.output]
    place = rng.choice(places)
    old = model.graph.node[place].output[0]
    shape = helper.make_node("Constant", [], ["sz"], value=numpy_helper.from_array(size))
    grow = rng.choice(
        (
            helper.make_node("ConstantOfShape", ["sz"], ["big"]),
            helper.make_node("Expand", [old, "sz"], ["big"]),
            helper.make_node("Tile", [old, "sz"], ["big"]),
            helper.make_node("Reshape", [old, "sz"], ["big"], allowzero=0),
            helper.make_node("Resize", [old, "", "", "sz"], ["big"]),
            helper.make_node("Pad", [old, "sz"], ["big"]),
        )
    )
    nodes = list(model.graph.node)
    nodes[place + 1 : place + 1] = [shape, grow]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _sparse(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    model.graph.node.add().CopyFrom(sparse_constant(rng.choice(secrets), numbers=64))


def _subgraph(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    whole = onnx.GraphProto.FromString(model.graph.SerializeToString())
    node = rng.choice(model.graph.node)
    inner = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
    inner.g.CopyFrom(whole)
    node.op_type = rng.choice(("If", "Loop", "Scan", node.op_type))


def _function(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    node = rng.choice(model.graph.node)
    made = model.functions.add(name=node.op_type, domain=node.domain, input=node.input)
    made.node.add().CopyFrom(sparse_constant(rng.choice(secrets), numbers=64))
    made.opset_import.add(version=18)


def _tensor(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    tensor = rng.choice([each for each in messages(model) if isinstance(each, TensorProto)])
    what = rng.randrange(5)
    if what == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_NUMBERS)
    elif what == 1:
        tensor.data_type = rng.randrange(24)
    elif what == 2:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif what == 3 and len(tensor.raw_data) > 8:
        data = bytearray(tensor.raw_data)
        at = rng.randrange(len(data) - 8)
        data[at : at + 8] = rng.choice((b"\xff" * 8, b"\x00\x7c" * 4, rng.randbytes(8)))
        tensor.raw_data = bytes(data)
    else:
        tensor.CopyFrom(elsewhere(rng.choice(secrets)))


def _rewired(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    nodes = list(model.graph.node)
    names = [name for node in nodes for name in (*node.input, *node.output)]
    node = rng.choice(nodes)
    match rng.randrange(5):
        case 0 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        case 1 if node.output:
            node.output[0] = rng.choice(names)
        case 2:
            node.input.append(rng.choice(names))
        case 3:
            model.graph.node.remove(node)
        case _:
            model.graph.node.insert(rng.randrange(len(nodes)), node)


def _constant(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    """The numbers that shapes are made with, where an earlier mutation has left any."""
    made = [node for node in model.graph.node if node.op_type == "Constant" and node.attribute]
    tensor = rng.choice(made).attribute[0].t
    dtype = {TensorProto.INT64: np.int64, TensorProto.FLOAT: np.float32}.get(tensor.data_type)
    if dtype is None or not tensor.raw_data or len(tensor.raw_data) % dtype().itemsize:
        return
    values = np.frombuffer(tensor.raw_data, dtype).copy()
    values[rng.randrange(len(values))] = rng.choice((0, 1, -1, 2, 3, 4, 8, 32, 2**15))
    tensor.raw_data = values.tobytes()


def _attribute(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    node = rng.choice([each for each in model.graph.node if each.attribute])
    attribute = rng.choice(node.attribute)
    fields = {field.name: field for field in attribute.DESCRIPTOR.fields}
    _set(
        attribute,
        fields[rng.choice(("f", "i", "s", "ints", "type", "name"))],
        rng,
        secrets,
        depth=0,
    )


MUTATIONS: tuple[Mutation, ...] = (
    _set_any_field,
    _set_any_field,
    _another_operator,
    _grown,
    _sparse,
    _subgraph,
    _function,
    _tensor,
    _rewired,
    _constant,
    _attribute,
)


def mutated(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> bytes:
    """A graph changed in one to three ways, now and then as bytes as well."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(rng.randint(1, 3)):
        rng.choice(MUTATIONS)(changed, rng, secrets)
    data = changed.SerializeToString()
    return mutated_bytes(data, rng) if rng.random() < 0.2 else data


def mutated_within(model: onnx.ModelProto, rng: random.Random) -> bytes:
    """A graph changed to another one of listed operators and attributes, most often once."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice((_other_weights, _listed_attribute, _other_input, _one_more, _constant))(
            changed, rng, []
        )
    return changed.SerializeToString()


def _other_weights(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    """Any finite numbers, the largest among them, or the same ones in another shape."""
    tensor = rng.choice(model.graph.initializer)
    values = numpy_helper.to_array(tensor).copy()
    if rng.random() < 0.3:
        values = values.reshape(rng.sample(values.shape, values.ndim))
    else:
        most = float(np.finfo(values.dtype).max)
        values[rng.randrange(len(values))] = rng.choice((0, 1e-8, 1, -100, most, -most))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _listed_attribute(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    nodes = [
        node for node in model.graph.node if OPERATORS.get(node.op_type, Operator(len)).attributes
    ]
    node = rng.choice(nodes)
    attribute = rng.choice(node.attribute)
    allowed = OPERATORS[node.op_type].attributes[attribute.name]
    attribute.CopyFrom(helper.make_attribute(attribute.name, rng.choice(allowed)))


def _other_input(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    place = rng.randrange(1, len(model.graph.node))
    node = model.graph.node[place]
    made = [each.output[0] for each in list(model.graph.node)[:place]]
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(made)


def _one_more(model: onnx.ModelProto, rng: random.Random, secrets: list[str]) -> None:
    """A node between another one and whoever read it."""
    nodes = list(model.graph.node)
    place = rng.randrange(len(nodes))
    old, new = nodes[place].output[0], f"more{rng.random()}"
    for node in nodes[place + 1 :]:
        for index, name in enumerate(node.input):
            node.input[index] = new if name == old else name
    more = rng.choice(
        (
            helper.make_node("Sigmoid", [old], [new]),
            helper.make_node("Add", [old, old], [new]),
            helper.make_node("Mul", [old, old], [new]),
            helper.make_node("Cast", [old], [new], to=TensorProto.FLOAT),
            helper.make_node("Shape", [old], [new]),
        )
    )
    nodes.insert(place + 1, more)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, put in or doubled, most of them near the ends."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.choice(
            (rng.randrange(len(changed) + 1), rng.randrange(min(400, len(changed)) + 1))
        )
        at = len(changed) - at if rng.random() < 0.5 else at
        size = rng.choice((0, 1, 1, 2, 8, 100))
        new = rng.choice(
            (b"", rng.randbytes(size), bytes(changed[at : at + size]) * 2, b"\xff" * size)
        )
        changed[at : at + size] = new
    return bytes(changed)
