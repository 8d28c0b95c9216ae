"""How much each frame of a morph differs from the one before, to the eye, without torch.

A part of LPIPS: the first three of AlexNet's five stages with its heads, each stage weighed so that
the sum follows all of LPIPS along morphs: `tools.step_judge` writes the graph. It serves to
space frames; what is reported as LPIPS is always the whole.

References:
    | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.machine.inference import cpu_session

__all__ = ["GRAPH", "INPUT", "OUTPUT", "visible_steps"]

GRAPH = Path(__file__).parent.parent / "assets" / "steps.onnx"
INPUT, OUTPUT = "frames", "steps"
"""The graph maps frames (n, 3, 128, 128) in [-1, 1] to steps (n - 1,)."""


def visible_steps(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of frames (n, 128, 128, 3), the n - 1 squared distances from each to the next."""
    signed = frames.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    return np.asarray(_session().run([OUTPUT], {INPUT: signed})[0], np.float64)


@cache
def _session() -> Any:
    return cpu_session(GRAPH.read_bytes())
