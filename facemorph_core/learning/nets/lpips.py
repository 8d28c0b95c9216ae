r"""LPIPS with AlexNet, version 0.1: how different two images look to people.

Convention:
    images are (B, 3, H, W) floats in [-1, 1], RGB, at least 31 px; the distance is one number
    per pair, 0 for identical images. AlexNet's convolutions are torchvision's
    (`facemorph_core.learning.weights`, "alexnet"), the linear heads those that the authors fitted
    to human judgements (`facemorph_core.learning.nets.lpips_heads`).

References:
    | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
    | https://arxiv.org/abs/1801.03924
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from facemorph_core.learning import weights
from facemorph_core.learning.nets.lpips_heads import load_heads, stage_distance

__all__ = ["LPIPS", "load_lpips", "lpips", "lpips_steps"]

LAYERS = (0, 3, 6, 8, 10)  # the convolutions of torchvision's AlexNet.features
EPSILON = 1e-10  # of a feature vector's length, as the authors have it
WHOLE = (1.0,) * len(LAYERS)
"""What each stage counts in LPIPS itself."""
BATCH = 32  # pairs at a time: bounds the memory


class LPIPS(nn.Module):
    """The distance as a module; all its numbers are fixed."""

    shift: Tensor
    scale: Tensor

    def __init__(self, features: Mapping[str, Tensor], heads: Sequence[Tensor]) -> None:
        super().__init__()
        # ImageNet's mean and deviation in [-1, 1], rounded as the authors did
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        for stage, (layer, head) in enumerate(zip(LAYERS, heads, strict=True)):
            self.register_buffer(f"kernel{stage}", features[f"features.{layer}.weight"])
            self.register_buffer(f"bias{stage}", features[f"features.{layer}.bias"])
            self.register_buffer(f"head{stage}", head)

    def forward(
        self, reference: Float[Tensor, "b 3 h w"], other: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """One distance per pair."""
        return self._distance(self.stages(reference), self.stages(other))

    def steps(
        self, frames: Float[Tensor, "n 3 h w"], weights: Sequence[float] = WHOLE
    ) -> Float[Tensor, " n-1"]:
        """From each frame to the next; each is read once.

        With fewer ``weights``, only so many stages count, each so much.
        """
        seen = self.stages(frames)[: len(weights)]
        return self._distance([x[:-1] for x in seen], [x[1:] for x in seen], weights)

    def _distance(
        self,
        reference: Sequence[Tensor],
        other: Sequence[Tensor],
        weights: Sequence[float] = WHOLE,
    ) -> Float[Tensor, " b"]:
        """Of images whose `stages` are known."""
        terms = [
            weight * stage_distance(x, y, self.get_buffer(f"head{stage}"), shortest=EPSILON)
            for stage, (weight, x, y) in enumerate(zip(weights, reference, other, strict=True))
        ]
        return torch.stack(terms).sum(dim=0)

    def stages(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """AlexNet's activations after each of its five convolutions."""
        x = (images - self.shift) / self.scale
        found = []
        for stage, (stride, padding) in enumerate([(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)]):
            if stage in (1, 2):
                x = F.max_pool2d(x, kernel_size=3, stride=2)
            kernel, bias = self.get_buffer(f"kernel{stage}"), self.get_buffer(f"bias{stage}")
            x = F.relu(F.conv2d(x, kernel, bias, stride=stride, padding=padding))
            found.append(x)
        return found


def load_lpips() -> LPIPS:
    """The metric with its published weights.

    Raises:
        WeightsUnavailable: AlexNet is not in the cache, or a file has another hash.
        MissingExtra: the package `lpips` with the heads is not installed.
    """
    return LPIPS(load_file(weights.find("alexnet")), load_heads("alex"))


@torch.no_grad()
def lpips(
    metric: LPIPS, reference: NDArray[Any], other: NDArray[Any], *, peak: float = 255.0
) -> NDArray[np.float64]:
    """Distance of each pair of (n, h, w, 3) images with values from 0 to ``peak``."""
    distances = [
        metric(
            to_signed(reference[start : start + BATCH], peak=peak),
            to_signed(other[start : start + BATCH], peak=peak),
        ).double()
        for start in range(0, len(reference), BATCH)
    ]
    return torch.cat(distances).numpy() if distances else np.zeros(0)


@torch.no_grad()
def lpips_steps(metric: LPIPS, frames: NDArray[Any], *, peak: float = 255.0) -> NDArray[np.float64]:
    """Of frames (n, h, w, 3), the n - 1 distances from each to the next."""
    found = [
        metric.steps(to_signed(frames[start : start + BATCH + 1], peak=peak))
        for start in range(0, len(frames) - 1, BATCH)
    ]
    return torch.cat(found).double().numpy() if found else np.zeros(0)


def to_signed(images: NDArray[Any], *, peak: float) -> Float[Tensor, "b 3 h w"]:
    """(B, H, W, 3) from 0 to ``peak`` as (B, 3, H, W) in [-1, 1]."""
    channels_first = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return channels_first.float() / (peak / 2) - 1
