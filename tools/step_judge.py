"""Write the graph by which the morph tool spaces frames, from LPIPS's published weights.

    python -m tools.step_judge [--out facemorph_core/assets/steps.onnx]

AlexNet's first three stages hold half of its weights. What each counts was fitted by non-negative
least squares to LPIPS's steps in 80 morphs of people of CelebA's train partition, 48 of them in
mode full: there the root of the sum follows that of LPIPS to 5 % along a morph.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx
import torch
from jaxtyping import Float
from onnx import numpy_helper
from torch import Tensor, nn

from facemorph_core.alignment.frame import FRAME_SIZE
from facemorph_core.learning.nets.lpips import LPIPS, load_lpips
from facemorph_core.learning.release.onnx import OPSET, cast_weights
from facemorph_core.morphing.visible_steps import GRAPH, INPUT, OUTPUT

STAGE_WEIGHTS = (1.2, 1.3, 2.5)


class StepJudge(nn.Module):
    """Squared distances from each frame to the next."""

    def __init__(self, metric: LPIPS) -> None:
        super().__init__()
        self.metric = metric

    def forward(self, frames: Float[Tensor, "n 3 s s"]) -> Float[Tensor, " n-1"]:
        """One for each frame but the first."""
        return self.metric.steps(frames, STAGE_WEIGHTS)


def graph_of(judge: StepJudge) -> onnx.ModelProto:
    """With weights as float16, which are cast when it is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "steps.onnx"
        torch.onnx.export(
            judge.eval(),
            (torch.zeros(3, 3, FRAME_SIZE, FRAME_SIZE),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n-1"}},
        )
        model = onnx.load_model(path)
    large = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
    for tensor in large:
        values = numpy_helper.to_array(tensor).astype("float16")
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    cast_weights(model.graph, {tensor.name for tensor in large})
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Read LPIPS, write the graph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=GRAPH)
    onnx.save_model(graph_of(StepJudge(load_lpips())), parser.parse_args().out)


if __name__ == "__main__":
    main()
