"""The two ONNX graphs of a bundle: what they may hold, and their weights by state-dict names.

Convention: the encoder maps ``images`` (n, 3, S, S) float32 in [-1, 1] to ``code`` (n, D), the
decoder maps ``code`` back to ``images``. Every weight is an initialiser under its state-dict
name; constants of the graph are nodes. What else a graph may hold is what our exporter writes:
`message` lists the fields, `operators` the operators with their attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facemorph_core.bundle.message import GraphRefused, parsed
from facemorph_core.bundle.operators import Faces
from facemorph_core.bundle.proto import onnx_pb2 as onnx
from facemorph_core.bundle.walk import face_bytes, numbers_of, walk

__all__ = ["CODE", "IMAGES", "OPSET", "Graph", "GraphRefused", "read_graph", "read_weights"]

IMAGES, CODE = "images", "code"
OPSET = 18
"""Standard operators that ONNX Runtime has run since 1.14."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A checked graph, and the bytes that its results for one face take at most."""

    model: onnx.ModelProto
    face_bytes: int


def read_graph(data: bytes, *, half: str, image_size: int, latent_dim: int) -> Graph:
    """Parse and check the graph of ``half`` ("encoder" or "decoder").

    Raises:
        GraphRefused: it is no ONNX, holds what our exporter does not write, has other ends or
            weight names than the convention says, weights that are no numbers, or takes too much
            memory.
    """
    model = parsed(data)
    if [entry.version for entry in model.opset_import] != [OPSET]:
        raise GraphRefused(f"it is not of opset {OPSET}")
    graph = model.graph
    ends = {IMAGES: (3, image_size, image_size), CODE: (latent_dim,)}
    source, target = (IMAGES, CODE) if half == "encoder" else (CODE, IMAGES)
    _check_end(graph.input, source, ends[source])
    _check_end(graph.output, target, ends[target])
    if not all(tensor.name.startswith(f"{half}.") for tensor in graph.initializer):
        raise GraphRefused(f"its weights are not named {half}.*")
    made = walk(graph, (source, Faces(ends[source])))
    if made.get(target) != Faces(ends[target]):
        raise GraphRefused(f"it makes no {target!r} of {source!r}")
    return Graph(model, face_bytes(made.values()))


def read_weights(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """The weights of a checked graph as float32, by state-dict name, in the graph's order."""
    return {
        tensor.name: numbers_of(tensor).reshape(tensor.dims).astype(np.float32)
        for tensor in model.graph.initializer
    }


def _check_end(found: Sequence[onnx.ValueInfoProto], name: str, shape: tuple[int, ...]) -> None:
    if [value.name for value in found] != [name]:
        raise GraphRefused(f"exactly one {name!r} is expected at its ends")
    kind = found[0].type.tensor_type
    sizes = kind.shape.dim
    if kind.elem_type != onnx.TensorProto.FLOAT or not sizes or sizes[0].HasField("dim_value"):
        raise GraphRefused(f"{name!r} is not float32 with a free number of images")
    if tuple(size.dim_value for size in sizes[1:]) != shape:
        raise GraphRefused(f"{name!r} is not of shape (n, {', '.join(map(str, shape))})")
