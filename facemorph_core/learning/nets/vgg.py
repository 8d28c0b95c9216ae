r"""VGG16's convolutions, numbered as torchvision numbers its ``features``, and what they expect.

References:
    | Very Deep Convolutional Networks (Simonyan & Zisserman, 2015)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions; pooling stands between the stages."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1], torchvision's normalisation
IMAGENET_STD = (0.229, 0.224, 0.225)


class VGG16(nn.Module):
    """The first ``stages`` of the five, frozen, each up to its last ReLU.

    ``weights`` are torchvision's, under the names ``features.N.weight`` and ``.bias``; those of
    later stages may be among them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Mapping[str, Tensor], *, stages: int = len(STAGES)) -> None:
        super().__init__()
        self.layers = _layers(STAGES[:stages])
        named = {name.removeprefix("features."): value for name, value in weights.items()}
        wanted = self.layers.state_dict()
        self.layers.load_state_dict({name: v for name, v in named.items() if name in wanted})
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.requires_grad_(False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """What each stage gives for images in [-1, 1]."""
        h = ((images + 1) / 2 - self.mean) / self.std
        taken = []
        for layer in self.layers:
            if isinstance(layer, nn.MaxPool2d):
                taken.append(h)
            h = layer(h)
        return [*taken, h]


def _layers(stages: tuple[tuple[int, ...], ...]) -> nn.Sequential:
    """Convolutions and ReLUs, a pooling before each stage but the first."""
    layers: list[nn.Module] = []
    channels = 3
    for number, widths in enumerate(stages):
        layers += [nn.MaxPool2d(2)] if number else []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)
