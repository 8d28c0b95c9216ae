"""int8 networks: weights by output channel, activations by ranges seen on public faces.

The graph keeps its float32 ends and gains QuantizeLinear and DequantizeLinear around what is
computed in int8, zero points 0, as ONNX Runtime and TensorRT read them. The ends of the decoder
stay float32: a step of 8 bits in the last layer is seen in flat areas.

References:
    | Quantization and Training of Neural Networks (Jacob et al., 2018)
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from facemorph_core.errors import FaceMorphError

__all__ = ["CALIBRATION", "calibration_faces", "quantised"]

CALIBRATION = 64
"""Faces that ranges are measured on."""


class _Reader:
    """Inputs one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, name: str, values: NDArray[np.float32]) -> None:
        self.inputs = iter([{name: values[i : i + 1]} for i in range(len(values))])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.inputs, None)


def quantised(model: onnx.ModelProto, values: NDArray[np.float32]) -> onnx.ModelProto:
    """A plain graph in int8, its ranges those of ``values``, inputs in the network's own units."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    [source], ends = model.graph.input, _ends(model)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, made = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, plain)
        quantize_static(
            plain,
            made,
            _Reader(source.name, values),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm"],
            nodes_to_exclude=ends,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )
        return onnx.load(made)


def calibration_faces(size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Public faces in the frame (n, S, S, 3) with their landmarks: people of the ORL set.

    Raises:
        FaceMorphError: the package that carries them is not installed.
    """
    from facemorph_core.config.schema import DataConfig
    from facemorph_core.shards.cache import shard_for

    try:
        shard = shard_for(DataConfig(source="orl"), seed=0)
    except FaceMorphError as error:
        raise FaceMorphError(
            f"there are no public faces here to measure on: {error}",
            hint="pip install 'facemorph-core[demo]'",
        ) from error
    if shard.size != size:
        raise FaceMorphError(f"the public faces have {shard.size} px, the model wants {size}")
    rows = shard.rows("train")
    chosen = rows[np.linspace(0, len(rows) - 1, CALIBRATION).astype(int)]
    return shard.images(chosen), shard.landmarks(chosen)


def _ends(model: onnx.ModelProto) -> list[str]:
    """Names of the first and the last layer that hold weights."""
    layers = [node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    return [layers[0], layers[-1]]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises to optimise the graph first, which `plain_graph` has done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
