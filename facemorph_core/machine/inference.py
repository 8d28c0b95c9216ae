"""ONNX Runtime on the CPU, as everything here uses it."""

from __future__ import annotations

from typing import Any

__all__ = ["cpu_session"]


def cpu_session(graph: bytes, *, threads: int = 0) -> Any:
    """A session of a serialised graph; 0 threads leaves the choice to ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings speak of our unused heads
    # threads that wait busily take the cores from whatever else draws a frame
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
