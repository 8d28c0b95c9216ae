r"""Distance of VGG16 features, one number per image.

Images are (B, 3, S, S) in [-1, 1]. The net is torchvision's VGG16 up to conv3_3, frozen; the
distance is the mean absolute difference of the features after relu1_2, relu2_2 and relu3_3,
averaged over the three. It sees one random crop, the same for both sides: the whole 128 px
frame costs nine times as much as a 64 px crop.

References:
    | Very Deep Convolutional Networks (Simonyan & Zisserman, 2015)
    | Perceptual Losses for Real-Time Style Transfer (Johnson et al., 2016)
    | High-Resolution Image Synthesis with Conditional GANs (Wang et al., 2018): the L1 form
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1], torchvision's normalisation
IMAGENET_STD = (0.229, 0.224, 0.225)
BLOCKS = ((64, 64), (128, 128), (256, 256, 256))  # convolutions up to conv3_3, pooled between


class VGGPerceptual(nn.Module):
    """Frozen features and the distance between them. ``path`` is the converted VGG16 file.

    ``crop`` is in pixels; an image of that size or less is seen whole.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path, crop: int) -> None:
        super().__init__()
        self.crop = crop
        self.blocks = _blocks()
        self.blocks.load_state_dict(_renamed(load_file(path)))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.requires_grad_(False)

    def forward(
        self,
        made: Float[Tensor, "b 3 s s"],
        real: Float[Tensor, "b 3 s s"],
        generator: torch.Generator,
    ) -> Float[Tensor, " b"]:
        """Per-image distance on one random square of ``generator``'s choice."""
        top, left, side = random_square(made.shape[-1], self.crop, generator)
        window = (..., slice(top, top + side), slice(left, left + side))
        with torch.no_grad():
            wanted = self.features(real[window])
        differences = [
            (a.float() - b.float()).abs().mean(dim=(1, 2, 3))
            for a, b in zip(self.features(made[window]), wanted, strict=True)
        ]
        return torch.stack(differences).mean(dim=0)

    def features(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """What VGG16 gives after relu1_2, relu2_2 and relu3_3."""
        h = ((images + 1) / 2 - self.mean) / self.std
        taken = []
        for block in self.blocks:
            h = block(h)
            taken.append(h)
        return taken


def random_square(image_size: int, crop: int, generator: torch.Generator) -> tuple[int, int, int]:
    """(top, left, side) of a square inside the image, every place equally likely."""
    side = min(crop, image_size)
    high = image_size - side + 1
    top, left = torch.randint(high, (2,), generator=generator, device=generator.device).tolist()
    return top, left, side


def _blocks() -> nn.ModuleList:
    """Each block ends in its last ReLU; the pooling opens the next."""
    blocks, channels = nn.ModuleList(), 3
    for number, widths in enumerate(BLOCKS):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        blocks.append(nn.Sequential(*layers))
    return blocks


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """From torchvision's names, counted through the whole net, to those of the blocks."""
    renamed, start = {}, 0
    for block, widths in enumerate(BLOCKS):
        opening = 1 if block else 0
        for place in range(len(widths)):
            layer = opening + 2 * place
            for part in ("weight", "bias"):
                renamed[f"{block}.{layer}.{part}"] = weights[f"features.{start + layer}.{part}"]
        start += opening + 2 * len(widths)
    return renamed
