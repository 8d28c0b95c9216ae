"""A TFLite net of plain layers -> the same net as ONNX, weights as float16.

TFLite keeps pictures as (1, h, w, c); here they are (n, c, h, w), any number at once. What is read
is what MediaPipe's face nets are made of; any other layer is refused by its name.

References:
    | https://ai.google.dev/edge/litert (its schema), https://onnx.ai/onnx/operators
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["OPSET", "Net", "to_onnx"]

OPSET = 17
TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
}
NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
ACTIVATIONS = {0: "", 1: "Relu"}
SAME = 0  # padding of convolutions; 1 is VALID
FLOAT_WEIGHTS = 64  # numbers; fewer stay float32


def to_onnx(file: Path, *, outputs: Mapping[int, str]) -> onnx.ModelProto:
    """The net of a ``.tflite`` file; ``outputs`` names those that are wanted, by their place.

    The input ``images`` is (n, 3, h, w). An output (1, 1, 1, c) becomes (n, c), one of three axes
    is as it was.

    Raises:
        ValueError: a layer that is not known here.
    """
    net = Net(file)
    for operator in net.graph.operators:
        net.add(operator)
    return net.finished(outputs)


class Net:
    """The graph while it is made. A value is named by the number that TFLite gives it."""

    def __init__(self, file: Path) -> None:
        content = schema.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
        self.file, self.graph = file, content.subgraphs[0]
        self.codes, self.buffers = content.operatorCodes, content.buffers
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, onnx.TensorProto] = {}
        self.constants: dict[int, NDArray[Any]] = {}
        for number, tensor in enumerate(self.graph.tensors):
            data = self.buffers[tensor.buffer].data
            if data is not None and len(data) and tensor.sparsity is None:
                values = np.frombuffer(bytes(data), TYPES[tensor.type])
                self.constants[number] = values.reshape(self.shape(number))

    def shape(self, number: int) -> tuple[int, ...]:
        """TFLite's."""
        shape = self.graph.tensors[number].shape
        return tuple(int(extent) for extent in (shape if shape is not None else ()))

    def kind(self, operator: Any) -> str:
        """Such as CONV_2D, or the name of a layer that is MediaPipe's own."""
        code = self.codes[operator.opcodeIndex]
        name = NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        return code.customCode.decode() if name == "CUSTOM" else name

    def add(self, operator: Any) -> None:
        """One layer."""
        kind = self.kind(operator)
        write = getattr(self, f"_{kind.lower()}", None)
        if write is None:
            raise ValueError(f"{self.file}: the layer {kind} is not known")
        write(operator, operator.builtinOptions)

    def finished(self, outputs: Mapping[int, str]) -> onnx.ModelProto:
        """The graph with its doors."""
        _, h, w, c = self.shape(self.graph.inputs[0])
        self.nodes.insert(0, helper.make_node("Identity", ["images"], [str(self.graph.inputs[0])]))
        doors = []
        for place, name in outputs.items():
            number = int(self.graph.outputs[place])
            shape = self.shape(number)
            flat = "Flatten" if len(shape) == 4 else "Identity"
            self._node(flat, [str(number)], name)
            kept = [shape[-1]] if len(shape) == 4 else list(shape[1:])
            doors.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *kept]))
        given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", c, h, w])
        graph = helper.make_graph(
            self.nodes, self.file.stem, [given], doors, list(self.stored.values())
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model

    # --- parts of a layer --------------------------------------------------------------------

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _keep(self, values: NDArray[Any], name: str) -> str:
        """A constant; a large one as float16, which TFLite had it as, and a cast."""
        if values.dtype != np.float32 or values.size < FLOAT_WEIGHTS:
            self.stored[name] = numpy_helper.from_array(values, name)
            return name
        half = values.astype(np.float16)
        self.stored[f"{name}.half"] = numpy_helper.from_array(half, f"{name}.half")
        return self._node("Cast", [f"{name}.half"], name, to=TensorProto.FLOAT)

    def _activated(self, operator: Any, activation: int, name: str) -> str:
        """The name that the layer itself has to write to, before what it is fused with."""
        if not ACTIVATIONS[activation]:
            return name
        return f"{name}.plain"

    def _activate(self, activation: int, name: str) -> None:
        if ACTIVATIONS[activation]:
            self._node(ACTIVATIONS[activation], [f"{name}.plain"], name)

    def _pads(self, operator: Any, sizes: tuple[int, int], strides: tuple[int, int]) -> list[int]:
        """TFLite's SAME: what is left over goes to the right and below."""
        if operator.builtinOptions.padding != SAME:
            return [0, 0, 0, 0]
        before, after = [], []
        given = self.shape(operator.inputs[0])[1:3]
        for extent, size, stride in zip(given, sizes, strides, strict=True):
            total = max((-(-extent // stride) - 1) * stride + size - extent, 0)
            before.append(total // 2)
            after.append(total - total // 2)
        return [*before, *after]

    # --- layers ------------------------------------------------------------------------------

    def _dequantize(self, operator: Any, _: Any) -> None:
        values = self.constants[operator.inputs[0]]
        self.constants[operator.outputs[0]] = values.astype(np.float32)

    def _densify(self, operator: Any, _: Any) -> None:
        number = operator.outputs[0]
        self.constants[number] = self._unpacked().get_tensor(number).copy()

    def _unpacked(self) -> Interpreter:
        """TFLite itself, which knows the layout of sparse weights."""
        if not hasattr(self, "interpreter"):
            self.interpreter = Interpreter(
                str(self.file),
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self.interpreter.allocate_tensors()
            self.interpreter.invoke()
        return self.interpreter

    def _conv_2d(self, operator: Any, options: Any) -> None:
        self._convolution(operator, options, self.constants[operator.inputs[1]], 1)

    def _depthwise_conv_2d(self, operator: Any, options: Any) -> None:
        kernels = self.constants[operator.inputs[1]]  # (1, h, w, c)
        groups = self.shape(operator.inputs[0])[3]
        self._convolution(operator, options, kernels.transpose(3, 1, 2, 0), groups)

    def _convolution(self, operator: Any, options: Any, kernels: NDArray[Any], group: int) -> None:
        given, _, bias = operator.inputs
        name = str(operator.outputs[0])
        strides = options.strideH, options.strideW
        weights = np.ascontiguousarray(kernels.transpose(0, 3, 1, 2))
        self._node(
            "Conv",
            [
                str(given),
                self._keep(weights, f"{name}.weight"),
                self._keep(self.constants[bias], f"{name}.bias"),
            ],
            self._activated(operator, options.fusedActivationFunction, name),
            strides=strides,
            pads=self._pads(operator, weights.shape[2:], strides),
            dilations=[options.dilationHFactor, options.dilationWFactor],
            group=group,
        )
        self._activate(options.fusedActivationFunction, name)

    def _add(self, operator: Any, options: Any) -> None:
        name = str(operator.outputs[0])
        given = [str(number) for number in operator.inputs]
        self._node("Add", given, self._activated(operator, options.fusedActivationFunction, name))
        self._activate(options.fusedActivationFunction, name)

    def _relu(self, operator: Any, _: Any) -> None:
        self._node("Relu", [str(operator.inputs[0])], str(operator.outputs[0]))

    def _prelu(self, operator: Any, _: Any) -> None:
        name = str(operator.outputs[0])
        slopes = self.constants[operator.inputs[1]].reshape(-1, 1, 1)
        self._node("PRelu", [str(operator.inputs[0]), self._keep(slopes, f"{name}.slope")], name)

    def _max_pool_2d(self, operator: Any, options: Any) -> None:
        sizes = options.filterHeight, options.filterWidth
        strides = options.strideH, options.strideW
        self._node(
            "MaxPool",
            [str(operator.inputs[0])],
            str(operator.outputs[0]),
            kernel_shape=sizes,
            strides=strides,
            pads=self._pads(operator, sizes, strides),
        )

    def _pad(self, operator: Any, _: Any) -> None:
        name = str(operator.outputs[0])
        n, h, w, c = self.constants[operator.inputs[1]].tolist()
        pads = np.array([n, c, h, w]).T.ravel()
        self._node("Pad", [str(operator.inputs[0]), self._keep(pads, f"{name}.pads")], name)

    def _reshape(self, operator: Any, _: Any) -> None:
        given, name = operator.inputs[0], str(operator.outputs[0])
        ordered = self._node("Transpose", [str(given)], f"{name}.ordered", perm=[0, 2, 3, 1])
        shape = np.array([-1, *self.shape(operator.outputs[0])[1:]])
        self._node("Reshape", [ordered, self._keep(shape, f"{name}.shape")], name)

    def _concatenation(self, operator: Any, options: Any) -> None:
        given = [str(number) for number in operator.inputs]
        self._node("Concat", given, str(operator.outputs[0]), axis=options.axis)

    def _resize_bilinear(self, operator: Any, options: Any) -> None:
        given, name = operator.inputs[0], str(operator.outputs[0])
        scale = self.shape(operator.outputs[0])[1] / self.shape(given)[1]
        scales = self._keep(np.array([1, 1, scale, scale], np.float32), f"{name}.scales")
        way = "half_pixel" if options.halfPixelCenters else "asymmetric"
        self._node(
            "Resize",
            [str(given), "", scales],
            name,
            mode="linear",
            coordinate_transformation_mode=way,
        )

    def _depth_to_space(self, operator: Any, options: Any) -> None:
        self._node(
            "DepthToSpace",
            [str(operator.inputs[0])],
            str(operator.outputs[0]),
            blocksize=options.blockSize,
        )
