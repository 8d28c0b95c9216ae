"""The two ONNX graphs of a bundle: what they may hold, and their weights by state-dict names.

Convention: the encoder maps ``images`` (n, 3, S, S) float32 in [-1, 1] to ``code`` (n, D), the
decoder maps ``code`` back to ``images``. Every weight is an initialiser under its state-dict
name; constants of the graph are nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

IMAGES, CODE = "images", "code"
STANDARD = {"", "ai.onnx"}


class GraphRefused(ValueError):
    """The graph is not one that a bundle may hold; the message says why."""


def read_graph(data: bytes, *, half: str, image_size: int, latent_dim: int) -> onnx.ModelProto:
    """Parse and check the graph of ``half`` ("encoder" or "decoder").

    Raises:
        GraphRefused: it is no ONNX, refers to other files, uses operators beyond the standard,
            or has other inputs, outputs or weight names than the convention says.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # noqa: BLE001 - protobuf's DecodeError has no stable home
        raise GraphRefused(f"it is not ONNX ({type(error).__name__})") from None
    graph = model.graph
    ends = {IMAGES: (3, image_size, image_size), CODE: (latent_dim,)}
    source, target = (IMAGES, CODE) if half == "encoder" else (CODE, IMAGES)
    _check_end(graph.input, source, ends[source])
    _check_end(graph.output, target, ends[target])
    _check_operators(model)
    if any(_is_elsewhere(tensor) for tensor in _tensors(graph)) or graph.sparse_initializer:
        raise GraphRefused("its weights lie in another file, or are sparse")
    names = [tensor.name for tensor in graph.initializer]
    if len(set(names)) != len(names) or not all(name.startswith(f"{half}.") for name in names):
        raise GraphRefused(f"its weights are not named {half}.*")
    return model


def read_weights(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """The weights of a checked graph as float32, by state-dict name, in the graph's order."""
    return {
        tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in model.graph.initializer
    }


def _check_end(found: list[onnx.ValueInfoProto], name: str, shape: tuple[int, ...]) -> None:
    if [value.name for value in found] != [name]:
        raise GraphRefused(f"exactly one {name!r} is expected at its ends")
    kind = found[0].type.tensor_type
    batch, *sizes = kind.shape.dim or [None]
    if kind.elem_type != onnx.TensorProto.FLOAT or batch is None or batch.dim_value:
        raise GraphRefused(f"{name!r} is not float32 with a free number of images")
    if tuple(size.dim_value for size in sizes) != shape:
        raise GraphRefused(f"{name!r} is not of shape (n, {', '.join(map(str, shape))})")


def _check_operators(model: onnx.ModelProto) -> None:
    if model.functions or any(entry.domain not in STANDARD for entry in model.opset_import):
        raise GraphRefused("it uses operators beyond standard ONNX")
    for node in model.graph.node:
        inner = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if inner or node.domain not in STANDARD:
            raise GraphRefused(f"its operator {node.op_type} is not allowed in a bundle")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _is_elsewhere(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)
