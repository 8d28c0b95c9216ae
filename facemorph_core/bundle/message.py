"""An ONNX file as a message: parsed in bounded memory, whole, with the fields that ours has.

A runtime does what a message says: it opens files, runs loops, calls functions. So nothing is
looked for that might be bad: the fields that our exporter sets are listed, and all others are
refused wherever they lie.

A parser makes an object of every message it meets: two bytes of an empty node become a hundred
and fifty in memory. So a file is first read as it lies on the wire: raw data of the weights is
skipped, all else is counted, and the count ends where it is too much.

References:
    | Protocol Buffers Documentation: Encoding
    | onnx/onnx.proto, for the numbers of the fields
"""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message

from facemorph_core.bundle.proto import onnx_pb2 as onnx

MAX_STRUCTURE = 2**20
"""Bytes beside the weights' raw data. Networks of ours have 26 thousand, whatever their size."""
_RAW_DATA = (7, 5, 9)  # ModelProto.graph, GraphProto.initializer, TensorProto.raw_data

_FIELDS = {
    "ModelProto": {"ir_version", "producer_name", "producer_version", "opset_import", "graph"},
    "OperatorSetIdProto": {"version"},
    "GraphProto": {"name", "node", "initializer", "input", "output"},
    "NodeProto": {"name", "op_type", "input", "output", "attribute"},
    "AttributeProto": {"name", "type", "f", "i", "s", "t", "ints"},
    "TensorProto": {"name", "dims", "data_type", "raw_data"},
    "ValueInfoProto": {"name", "type"},
    "TypeProto": {"tensor_type"},
    "Tensor": {"elem_type", "shape"},
    "TensorShapeProto": {"dim"},
    "Dimension": {"dim_value", "dim_param"},
}
"""What our exporter sets, by message: no weights in other files, no sparse ones, no domains, no
functions, no graph within a graph, no notes that a runtime might heed."""


class GraphRefused(ValueError):
    """The graph is not one that a bundle may hold; the message says why."""


def parsed(data: bytes) -> onnx.ModelProto:
    """The model in ``data``, every field of it one that our exporter sets.

    Raises:
        GraphRefused: it is no ONNX, or holds anything else.
    """
    if _structure(memoryview(data), _RAW_DATA) > MAX_STRUCTURE:
        raise GraphRefused(f"more than {MAX_STRUCTURE} bytes of it are not weights")
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise GraphRefused(f"it is not ONNX ({error})") from None
    model.DiscardUnknownFields()
    if model.ByteSize() != len(data):  # what this parser passes over, another one might read
        raise GraphRefused("it holds fields that ONNX does not know, or one of them twice")
    _check_fields(model)
    return model


def _check_fields(message: Message) -> None:
    kind = message.DESCRIPTOR.name
    for field, value in message.ListFields():
        if field.name not in _FIELDS.get(kind, ()):
            raise GraphRefused(f"it sets {kind}.{field.name}, which none of ours does")
        for each in [value] if isinstance(value, Message | str | bytes | int | float) else value:
            if isinstance(each, Message):
                _check_fields(each)
            elif field.type == field.TYPE_STRING and not _is_plain(each):
                raise GraphRefused(f"its {kind}.{field.name} is not plain text")


def _is_plain(text: object) -> bool:
    """Whether it can be compared and shown; what is not UTF-8 comes as bytes."""
    return isinstance(text, str) and text.isascii() and text.isprintable()


def _structure(message: memoryview, skipped: tuple[int, ...]) -> int:
    """Bytes of ``message`` outside the field that ``skipped`` leads to, or the first too many."""
    taken = at = 0
    while at < len(message) and skipped and taken <= MAX_STRUCTURE:
        number, start, end = _field(message, at)
        inside = message[start:end]
        taken += start - at
        taken += _structure(inside, skipped[1:]) if number == skipped[0] else len(inside)
        at = end
    return taken


def _field(message: memoryview, at: int) -> tuple[int, int, int]:
    """Number, first and last+1 byte of the field whose key is at ``at``."""
    key, start = _varint(message, at)
    match key & 7:
        case 0:  # a number
            end = _varint(message, start)[1]
        case 1:
            end = start + 8
        case 2:  # bytes or a message, with their length
            size, start = _varint(message, start)
            end = start + size
        case 5:
            end = start + 4
        case _:
            raise GraphRefused("it is not ONNX (a field of an unknown kind)")
    if end > len(message):
        raise GraphRefused("it is not ONNX (it is cut short)")
    return key >> 3, start, end


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at``, seven bits a byte, and where the next thing begins."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise GraphRefused("it is not ONNX (it is cut short)")
