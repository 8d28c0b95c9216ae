"""What TensorRT documents as supported, and the command that builds an engine.

Nothing here was run on an NVIDIA GPU: the graphs are held to the document, not to a device.

References:
    | onnx-tensorrt, operators.md among its docs: operators, types and restrictions
    | NVIDIA TensorRT documentation: trtexec
"""

from __future__ import annotations

import shlex
from pathlib import Path

import onnx

from facemorph_core.deploy.graphs import BATCH, operators

__all__ = ["SUPPORTED", "problems", "trtexec"]

SUPPORTED = frozenset(
    {
        *("Add", "Cast", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "DepthToSpace"),
        *("DequantizeLinear", "Div", "Exp", "Flatten", "Gather", "Gemm", "Identity"),
        *("InstanceNormalization", "LeakyRelu", "MatMul", "Max", "Min", "Mul", "Neg", "Pad", "Pow"),
        *("QuantizeLinear", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid"),
        *("Slice", "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub"),
        *("Tanh", "Transpose", "Unsqueeze", "Where"),
    }
)
"""Operators of its support matrix for float32 and float16, as far as networks like ours have
them."""
_STORED = {"Conv": (1,), "ConvTranspose": (1,), "InstanceNormalization": (1, 2)}
"""Inputs that must be initialisers."""
_MOST = 16
"""Faces of a dynamic batch that the engine is built for."""


def problems(model: onnx.ModelProto) -> list[str]:
    """What TensorRT does not document as supported in a graph; empty is good."""
    stored = {tensor.name for tensor in model.graph.initializer}
    found = [f"operator {name}" for name in operators(model) if name not in SUPPORTED]
    for node in model.graph.node:
        found += [
            f"input {place} of {node.op_type} {node.name} is no initialiser"
            for place in _STORED.get(node.op_type, ())
            if node.input[place] not in stored
        ]
    return found


def trtexec(path: Path, model: onnx.ModelProto, *, half: bool = True) -> str:
    """The command that builds and times an engine of the graph at ``path``, in float16."""
    words = ["trtexec", f"--onnx={path.name}", f"--saveEngine={path.with_suffix('.plan').name}"]
    [source] = model.graph.input
    first, *rest = source.type.tensor_type.shape.dim
    if first.dim_param == BATCH:
        sizes = "x".join(str(dim.dim_value) for dim in rest)
        words += [
            f"--{name}Shapes={source.name}:{count}x{sizes}"
            for name, count in (("min", 1), ("opt", 1), ("max", _MOST))
        ]
    return shlex.join([*words, *(["--fp16"] if half else [])])
