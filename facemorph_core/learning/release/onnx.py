"""A torch autoencoder as two ONNX graphs whose weights keep their state-dict names.

The structure comes from torch's exporter; the weights are then put in from the state dict, each
as one initialiser under its own name. Stored as float16 they pass through a Cast to float32,
which ONNX Runtime folds when it loads the model, so the arithmetic is float32 either way.
GroupNorm becomes Reshape + InstanceNormalization, which is exact and does not mix the images of a
batch.

Conventions as in `facemorph_core.bundle.graph`. What a graph may hold is listed beside it, in
`operators` and `message`: what is new here is refused by every reader until it is listed there.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from facemorph_core.bundle.graph import CODE, IMAGES, OPSET
from facemorph_core.learning.models import Autoencoder

__all__ = ["OPSET", "Half", "Precision", "cast_weights", "export_half"]

Half = Literal["encoder", "decoder"]
Precision = Literal["float16", "float32"]
_PREFIX = "model."


def export_half(model: Autoencoder, half: Half, *, precision: Precision) -> bytes:
    """The ONNX file of ``model.code`` ("encoder") or ``model.decode`` ("decoder")."""
    graph = _trace(model, half)
    weights = {
        name: value.detach().cpu().numpy()
        for name, value in model.state_dict().items()
        if name.startswith(f"{half}.")
    }
    del graph.graph.initializer[:]
    for name, value in weights.items():
        with np.errstate(over="ignore"):  # becomes infinite, which the parity check sees
            stored = value.astype(precision)
        graph.graph.initializer.append(onnx.numpy_helper.from_array(stored, name))
    if precision == "float16":
        cast_weights(graph.graph, weights.keys())
    onnx.checker.check_model(graph)
    return graph.SerializeToString()


class _Half(nn.Module):
    model: Autoencoder

    def __init__(self, model: Autoencoder, half: Half) -> None:
        super().__init__()
        self.model, self.which = model, half

    def forward(self, value: Tensor) -> Tensor:
        return self.model.code(value) if self.which == "encoder" else self.model.decode(value)


def _trace(model: Autoencoder, half: Half) -> onnx.ModelProto:
    """The graph of one half; each weight's name leads its uses, its initialiser is a dummy."""
    twin = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    _make_distinct(twin)
    size, numbers = int(twin.image_size), int(twin.latent_dim)
    shapes = {IMAGES: (2, 3, size, size), CODE: (2, numbers)}
    source, target = (IMAGES, CODE) if half == "encoder" else (CODE, IMAGES)
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{half}.onnx"
        # The TorchScript exporter: it needs no further package and keeps all names as they are.
        torch.onnx.export(
            _Half(twin, half),
            (torch.zeros(shapes[source]),),
            path,
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,
            input_names=[source],
            output_names=[target],
            dynamic_axes={source: {0: "n"}, target: {0: "n"}},
        )
        graph = onnx.load_model(path)
    for node in graph.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = name.removeprefix(_PREFIX)
    _state_shape(graph.graph.output[0], shapes[target])
    return graph


def _make_distinct(model: Autoencoder) -> None:
    """Give every weight other values: the exporter merges equal ones, and their names with them."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))


def _state_shape(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    """Write down the sizes that the exporter left open behind a reshape."""
    dims = value.type.tensor_type.shape.dim
    for dim, size in zip(dims[1:], shape[1:], strict=True):
        dim.dim_value = size


def cast_weights(graph: onnx.GraphProto, names: Set[str]) -> None:
    """Let every use of the weights ``names`` read their float32 casts."""
    used = {name for node in graph.node for name in node.input if name in names}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in names:
                node.input[index] = _cast_name(name)
    casts = [
        onnx.helper.make_node(
            "Cast", [name], [_cast_name(name)], name=f"cast/{name}", to=onnx.TensorProto.FLOAT
        )
        for name in sorted(used)
    ]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _cast_name(name: str) -> str:
    return f"{name}/float32"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's warnings speak to its developers: traced shapes, its own retirement."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
