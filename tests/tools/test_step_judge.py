"""The graph that spaces frames is the part of LPIPS that it says it is."""

import numpy as np
import pytest
import torch

from facemorph_core.errors import WeightsUnavailable
from facemorph_core.learning.nets.lpips import load_lpips, to_signed
from facemorph_core.morphing.visible_steps import visible_steps
from tests.core.faces import five_frames
from tools.step_judge import StepJudge


@pytest.mark.weights
def test_visible_steps_are_the_first_part_of_lpips() -> None:
    try:
        judge = StepJudge(load_lpips())
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    with torch.no_grad():
        expected = judge(to_signed(five_frames(), peak=255.0)).numpy()
    np.testing.assert_allclose(visible_steps(five_frames()), expected, rtol=0.01, atol=1e-6)
