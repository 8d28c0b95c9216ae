"""One way to run a graph: the same numbers with any threads, and folded or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from facemorph_core.machine.inference import cpu_session


def graph() -> bytes:
    """x (2,) -> x + (one + one): the bracket depends on no input."""
    one = onnx.numpy_helper.from_array(np.ones(2, np.float32), "one")
    nodes = [
        onnx.helper.make_node("Add", ["one", "one"], ["two"]),
        onnx.helper.make_node("Add", ["x", "two"], ["y"]),
    ]
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("x", "y")
    )
    made = onnx.helper.make_graph(nodes, "g", [x], [y], [one])
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(made, ir_version=8, opset_imports=opset).SerializeToString()


def test_a_folded_graph_computes_the_same_with_less(tmp_path: Path):
    path, given = tmp_path / "folded.onnx", {"x": np.array([3, -1], np.float32)}
    wanted = [np.array([5, 1], np.float32)]
    for session in (cpu_session(graph()), cpu_session(graph(), threads=2, folded=path)):
        np.testing.assert_array_equal(session.run(None, given), wanted)
    np.testing.assert_array_equal(cpu_session(path.read_bytes()).run(None, given), wanted)
    assert [node.op_type for node in onnx.load_model(path).graph.node] == ["Add"]
