"""The networks of a bundle as plain ONNX graphs for other runtimes.

Weights are float32 initialisers, constants are folded, operators are standard ones of OPSET. The
batch is fixed or dynamic. Inputs and outputs are those of the bundle: `bundle.graph` names them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray

from facemorph_core.bundle import Bundle
from facemorph_core.bundle.graph import read_weights
from facemorph_core.bundle.manifest import DECODER, ENCODER
from facemorph_core.machine.inference import cpu_session

__all__ = ["OPSET", "Half", "operators", "plain_graph"]

Half = Literal["encoder", "decoder"]
OPSET = 17
"""The newest that TensorRT 8.6, JetPack 6's first, reads."""
BATCH = "n"
"""Name of a dynamic batch."""
_MEMBERS = {"encoder": ENCODER, "decoder": DECODER}


def plain_graph(bundle: Bundle, half: Half, *, batch: int | None = None) -> onnx.ModelProto:
    """One half of a bundle's model; ``batch`` None leaves the number of faces open.

    Raises:
        BundleError: the bundle's graph is refused.
    """
    checked = bundle.checked_graph(_MEMBERS[half])
    model = onnx.ModelProto.FromString(checked.SerializeToString())
    _store_as_float32(model, read_weights(checked))
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if batch is None:
            first.dim_param = BATCH
        else:
            first.dim_value = batch
    model = onnx.version_converter.convert_version(_folded(model), OPSET)
    onnx.checker.check_model(model, full_check=True)
    return model


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator occurs, by name; one of another domain as DOMAIN.NAME."""
    counts: dict[str, int] = {}
    for node in model.graph.node:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _store_as_float32(model: onnx.ModelProto, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Widen the weights and drop the casts that a bundle widens them with."""
    graph = model.graph
    widened = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Cast" and node.input[0] in weights
    }
    _keep(graph, (node for node in graph.node if node.output[0] not in widened))
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = widened.get(name, name)
    del graph.initializer[:]
    for name, value in weights.items():
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))


def _keep(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """With everything computed that depends on no input: ONNX Runtime's basic optimisations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        cpu_session(model.SerializeToString(), folded=path)
        return onnx.load_model(path)
