"""The convolution by unfolding equals the library's, in values and in gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.learning.models import convolution
from facemorph_core.learning.models.convolution import Conv2d, fold, unfold

CASES = [(3, 1, 1), (3, 2, 1), (1, 1, 0)]  # kernel, stride, padding


@pytest.fixture(autouse=True)
def on_a_cpu_with_tiles(monkeypatch):
    monkeypatch.setattr(convolution, "has_tiles", lambda: True)


def test_without_tiles_it_is_the_library(monkeypatch):
    monkeypatch.setattr(convolution, "has_tiles", lambda: False)
    monkeypatch.setattr(convolution._Unfolded, "apply", None)
    with torch.autocast("cpu", torch.bfloat16):
        assert Conv2d(64, 64, 3, padding=1)(grids(1, 64, 4)).requires_grad


def grids(batch: int, channels: int, side: int) -> torch.Tensor:
    values = torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(0))
    return values.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(("kernel", "stride", "padding"), CASES)
def test_values_and_gradients_are_those_of_the_library(kernel, stride, padding, monkeypatch):
    conv = Conv2d(64, 96, kernel, stride=stride, padding=padding)
    conv.to(memory_format=torch.channels_last)
    images = grids(4, 64, 8)
    found = {}
    for way, largest in (("unfolded", 8), ("library", 0)):
        monkeypatch.setattr(convolution, "LARGEST_GRID", largest)
        conv.zero_grad()
        images.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            made = conv(images)
        made.float().square().sum().backward()
        found[way] = [made, images.grad, conv.weight.grad, conv.bias.grad]
    for ours, theirs in zip(found["unfolded"], found["library"], strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() < 0.02 * theirs.norm()  # bfloat16 keeps 8 bits


def test_without_gradients_it_is_the_library(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("unfolded")

    monkeypatch.setattr(convolution._Unfolded, "apply", refuse)
    conv, images = Conv2d(64, 64, 3, padding=1), grids(1, 64, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        conv(images)
    conv(images)  # float32: no autocast
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(AssertionError, match="unfolded"):
        conv(images)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(CASES), st.integers(1, 3), st.integers(1, 5), st.sampled_from([4, 6, 8]))
def test_folding_is_the_transpose_of_unfolding(case, batch, channels, side):
    """<unfold(x), p> = <x, fold(p)> for all x and p."""
    kernel, stride, padding = case
    images = grids(batch, channels, side).detach()
    patches, _ = unfold(images, kernel, stride, padding)
    other = torch.randn(patches.shape, generator=torch.Generator().manual_seed(1))
    back = fold(other, images.shape, kernel, stride, padding)
    torch.testing.assert_close((patches * other).sum(), (images * back).sum(), rtol=1e-4, atol=1e-3)
