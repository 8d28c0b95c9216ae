r"""The residual encoder and decoder that all kinds of autoencoder share.

A space-to-depth stem takes (3, S, S) to (48, S/4, S/4); four stages of ``width`` x (1, 2, 4, 8)
channels lead to S/32; the decoder mirrors them. Nothing mixes the images of a batch: the only
normalisation is GroupNorm, once a block: on a CPU it costs nearly as much as a convolution.
Residual branches start at zero and what is last in the decoder near it, so that training starts
smooth.

References:
    | Fixup Initialization (Zhang et al., 2019), https://arxiv.org/abs/1901.09321
    | Real-Time Single Image Super-Resolution (Shi et al., 2016): pixel shuffle
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facemorph_core.learning.models.convolution import Conv2d

STEM = 4  # pixels that the stem folds into channels, per side
STAGES = (1, 2, 4, 8)  # channels of each stage in units of the width
REDUCTION = STEM * 2 ** (len(STAGES) - 1)  # image side over the side of the last grid
GROUPS = 8  # of GroupNorm: every width is a multiple of 8
SMALL = 0.1  # what the decoder's last layer starts at, of its usual values
LAYOUT = torch.channels_last  # of every grid in memory: the faster one on a CPU
FIRST_LOG_VAR = -6.0
"""Where the posterior's log variance starts: little noise, so that the code is used first."""


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(norm(x))))), (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.conv_a = Conv2d(channels, channels, 3, padding=1)
        self.conv_b = Conv2d(channels, channels, 3, padding=1)
        self.act = nn.SiLU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        h = self.conv_a(self.act(self.norm(x)))
        return x + self.conv_b(self.act(h))


class Upsample(nn.Module):
    """Depth to space: (B, C, H, W) -> (B, C', 2H, 2W)."""

    def __init__(self, channels: int, channels_out: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, 4 * channels_out, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        return self.shuffle(self.conv(x))


class Encoder(nn.Module):
    """(B, 3, S, S) in [-1, 1] -> (B, D), or (B, 2 D) with ``log_var``; not bounded."""

    def __init__(
        self, image_size: int, latent_dim: int, width: int, *, log_var: bool = False
    ) -> None:
        super().__init__()
        _check_size(image_size)
        widths = [width * k for k in STAGES]
        stages: list[nn.Module] = [ResidualBlock(widths[0])]
        for before, after in itertools.pairwise(widths):
            stages += [Conv2d(before, after, 3, stride=2, padding=1), ResidualBlock(after)]
        self.fold = nn.PixelUnshuffle(STEM)
        self.stem = Conv2d(3 * STEM**2, widths[0], 3, padding=1)
        self.stages = nn.Sequential(*stages)
        self.norm = nn.GroupNorm(GROUPS, widths[-1])
        self.act = nn.SiLU()
        features = widths[-1] * (image_size // REDUCTION) ** 2
        self.latent_dim, self.log_var = latent_dim, log_var
        self.head = nn.Linear(features, latent_dim * (2 if log_var else 1))

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n"]:
        if torch.is_autocast_enabled(images.device.type):
            images = images.to(torch.get_autocast_dtype(images.device.type))  # half the memory
        h = self.stages(self.stem(self.fold(images)))
        return self.head(self.act(self.norm(h)).flatten(1)).float()


class Decoder(nn.Module):
    """(B, D) -> (B, 3, S, S), meant for [-1, 1] but not bounded."""

    def __init__(self, image_size: int, latent_dim: int, width: int) -> None:
        super().__init__()
        _check_size(image_size)
        widths = [width * k for k in reversed(STAGES)]
        stages: list[nn.Module] = [ResidualBlock(widths[0])]
        for before, after in itertools.pairwise(widths):
            stages += [Upsample(before, after), ResidualBlock(after)]
        self.image_size, self.latent_dim = image_size, latent_dim
        self.grid = (widths[0], image_size // REDUCTION, image_size // REDUCTION)
        self.head = nn.Linear(latent_dim, widths[0] * self.grid[1] * self.grid[2])
        self.stages = nn.Sequential(*stages)
        self.norm = nn.GroupNorm(GROUPS, widths[-1])
        self.act = nn.SiLU()
        self.to_pixels = Conv2d(widths[-1], 3 * STEM**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(STEM)

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 s s"]:
        h = self.head(z).view(-1, *self.grid).contiguous(memory_format=LAYOUT)
        return self.unfold(self.to_pixels(self.act(self.norm(self.stages(h))))).float()


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Give every parameter its starting value, in place, from ``generator`` alone.

    He-normal convolutions (fan in), Glorot-normal linear layers, zero biases; the last
    convolution of a residual branch starts at zero, the decoder's last layer near it.

    Raises:
        ValueError: a layer has weights of its own and no start here.
    """
    for part in module.modules():
        match part:
            case nn.Conv2d():
                nn.init.kaiming_normal_(part.weight, generator=generator)
            case nn.Linear():
                nn.init.xavier_normal_(part.weight, generator=generator)
            case nn.GroupNorm() | nn.LayerNorm():
                nn.init.ones_(part.weight)
            case _ if next(part.parameters(recurse=False), None) is not None:
                raise ValueError(f"no start is known for the weights of {type(part).__name__}")
            case _:
                continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    for part in module.modules():
        match part:
            case ResidualBlock():
                nn.init.zeros_(part.conv_b.weight)
            case Decoder():
                with torch.no_grad():
                    part.to_pixels.weight.mul_(SMALL)
            case Encoder() if part.log_var:
                with torch.no_grad():
                    part.head.bias[part.latent_dim :] = FIRST_LOG_VAR


def _check_size(image_size: int) -> None:
    if image_size % REDUCTION:
        raise ValueError(f"image_size must be a multiple of {REDUCTION}, got {image_size}")
