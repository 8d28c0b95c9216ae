"""ONNX Runtime on the CPU, as everything here uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["cpu_session"]


def cpu_session(graph: bytes, *, threads: int = 0, folded: Path | None = None) -> Any:
    """A session of a serialised graph; 0 threads leaves the choice to ONNX Runtime.

    With ``folded`` it is optimised in the basic way only, which computes beforehand what depends
    on no input, and the graph that comes of it is written there.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; its warnings speak of our unused heads
    # threads that wait busily take the cores from whatever else draws a frame
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folded is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
