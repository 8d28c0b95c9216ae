r"""How far a made face is from the real one's person, one number per image.

Images are (B, 3, S, S) in [-1, 1], RGB, in the canonical frame or in the mean shape. A frozen
MobileFaceNet reads both; the distance is 1 - cos of the angle between the two embeddings, from 0
for one person to about 1 for two, 2 at most. It trains; `facemorph_core.metrics.identity` judges
with another net.

The net wants a face's five points at ArcFace's places in 112 pixels: `cut` brings those of the
mean shape there, and the same cut serves every face (cuts 10 % wider, narrower, higher or lower
tell people apart no better). In the mean shape a face has lost a part of who it is (AUC .96 instead
of .985 between 200 people): ``places`` say where the pixels of the frame's cut lie in it.

The published graph is damaged by its conversion, and is not followed in two places: the slopes of
its PReLUs have the wrong sign (see `weights.convert.from_tfjs`), and those behind the depthwise
convolutions were fused into ReLUs, which leaves the slopes without effect.

References:
    | MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification (Chen et al., 2018)
    | ArcFace: Additive Angular Margin Loss for Deep Face Recognition (Deng et al., 2019)
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from facemorph_core.alignment.frame import FRAME_SIZE, eye_centres, mean_shape
from facemorph_core.alignment.geometry import (
    Points,
    apply_affine,
    compose_affine,
    fit_similarity,
    invert_affine,
    rescaling,
)

__all__ = ["CUT_SIZE", "IdentityDistance", "MobileFaceNet", "cut"]

CUT_SIZE = 112
# of ArcFace (Deng et al., 2019): eye, eye, tip of the nose, corners of the mouth; (x, y) pixels
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT = 30, 48, 54  # of the 68 landmarks
# name in the graph, how many, channels inside, channels out, stride of the first
BLOCKS = (
    ("Conv2d_2_InvResBlock", 5, 128, 64, 2),
    ("Conv2d_3_InvResBlock", 1, 256, 128, 2),
    ("Conv2d_4_InvResBlock", 6, 256, 128, 1),
    ("Conv2d_5_InvResBlock", 1, 512, 128, 2),
    ("Conv2d_6_InvResBlock", 2, 256, 128, 1),
)
NUM_EMBEDDING = 192


class IdentityDistance(nn.Module):
    """1 - cos of the embeddings of two faces. ``path`` is the converted MobileFaceNet."""

    grid: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.net = MobileFaceNet()
        self.net.load_state_dict(load_file(path))
        places = torch.from_numpy(cut()).float()[None]
        self.register_buffer("grid", on_unit_square(places, FRAME_SIZE), persistent=False)
        self.requires_grad_(False).eval()

    def forward(
        self,
        made: Float[Tensor, "b 3 s s"],
        real: Float[Tensor, "b 3 s s"],
        places: Float[Tensor, "#b 112 112 2"] | None = None,
    ) -> Float[Tensor, " b"]:
        """Per-image distance; its gradient reaches ``made`` alone.

        ``places`` are the (x, y) pixels of the images that the net sees; without them, `cut`.
        """
        with torch.no_grad():
            wanted = self.embed(real, places)
        found = self.embed(made, places)
        with torch.autocast(made.device.type, enabled=False):
            return 1 - F.cosine_similarity(found.float(), wanted.float(), dim=1)

    def embed(
        self,
        images: Float[Tensor, "b 3 s s"],
        places: Float[Tensor, "#b 112 112 2"] | None = None,
    ) -> Float[Tensor, "b 192"]:
        """The embeddings, of any length."""
        grid = self.grid if places is None else on_unit_square(places, images.shape[-1])
        grid = grid.expand(len(images), -1, -1, -1)
        seen = F.grid_sample(images.float(), grid, align_corners=False)
        return self.net(seen.contiguous(memory_format=torch.channels_last))


def on_unit_square(places: Float[Tensor, "*b h w 2"], size: int) -> Float[Tensor, "*b h w 2"]:
    """Pixels of an image of that side as `grid_sample` counts: its edges are at -1 and 1."""
    return (2 * places + 1) / size - 1


@cache
def cut(size: int = FRAME_SIZE) -> Points:
    """(112, 112, 2): where in a frame of that side the pixels lie that the net sees, (x, y)."""
    shape = mean_shape()
    five = np.vstack([eye_centres(shape), shape[[NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT]]])
    to_frame = invert_affine(fit_similarity(five, TEMPLATE))
    to_image = compose_affine(rescaling(size / FRAME_SIZE), to_frame)
    y, x = np.mgrid[:CUT_SIZE, :CUT_SIZE].astype(np.float64)
    points = apply_affine(to_image, np.stack([x, y], axis=-1).reshape(-1, 2))
    return points.reshape(CUT_SIZE, CUT_SIZE, 2)


class Layer(nn.Conv2d):
    """A convolution with its batch norm folded in, then a PReLU or nothing.

    TensorFlow's "SAME" padding at a stride of 2 on an even side is right and bottom alone: the odd
    places of the convolution at stride 1. That is how it is computed here: in bfloat16 on a CPU
    the gradient of a strided depthwise convolution takes as long as all the rest of the net.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, *, stride: int = 1, groups: int = 1, bends: bool
    ) -> None:
        super().__init__(inputs, outputs, side, padding=1 if side == 3 else 0, groups=groups)
        self.places = slice(stride - 1, None, stride)
        self.slope = nn.Parameter(torch.zeros(outputs)) if bends else None

    def forward(self, images: Tensor) -> Tensor:
        h = super().forward(images)[..., self.places, self.places]
        return h if self.slope is None else prelu(h, self.slope)


def prelu(h: Float[Tensor, "b c h w"], slope: Float[Tensor, " c"]) -> Float[Tensor, "b c h w"]:
    """F.prelu without the gradient of the slope, which torch computes wanted or not."""
    kept = (1 - slope).to(h.dtype)[:, None, None]
    return torch.lerp(h, F.relu(h), kept)


def depthwise(channels: int, side: int = 3, *, stride: int = 1, bends: bool = True) -> Layer:
    """Each channel by itself."""
    return Layer(channels, channels, side, stride=stride, groups=channels, bends=bends)


class Block(nn.Sequential):
    """Widens, filters, narrows; what came in is added where the shape stays."""

    def __init__(self, inputs: int, inside: int, outputs: int, *, stride: int) -> None:
        super().__init__(
            OrderedDict(
                Conv=Layer(inputs, inside, 1, bends=True),
                SeparableConv2d=depthwise(inside, stride=stride),
                Conv_1=Layer(inside, outputs, 1, bends=False),
            )
        )
        self.adds = stride == 1

    def forward(self, images: Tensor) -> Tensor:
        h = images
        for layer in self:
            h = layer(h)
        return images + h if self.adds else h


class MobileFaceNet(nn.Sequential):
    """(B, 3, 112, 112) in [-1, 1] -> (B, 192). Its layers bear the names of the graph."""

    def __init__(self) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            Conv2d_0=Layer(3, 64, 3, stride=2, bends=True),
            SeparableConv2d=depthwise(64),
            Conv=Layer(64, 64, 1, bends=False),
        )
        channels = 64
        for name, count, inside, outputs, stride in BLOCKS:
            for number in range(count):
                block = Block(channels, inside, outputs, stride=1 if number else stride)
                layers[f"{name}_{number}"], channels = block, outputs
        layers["Conv2d_7"] = Layer(channels, 512, 1, bends=True)
        layers["Logits"] = nn.Sequential(
            OrderedDict(
                SeparableConv2d=depthwise(512, 7, bends=False),
                Conv=Layer(512, 512, 1, bends=False),
                LinearConv1x1=Layer(512, NUM_EMBEDDING, 1, bends=False),
            )
        )
        super().__init__(layers)

    def forward(self, images: Float[Tensor, "b 3 112 112"]) -> Float[Tensor, "b 192"]:
        h = images
        for layer in self:
            h = layer(h)
        return h.flatten(1)
