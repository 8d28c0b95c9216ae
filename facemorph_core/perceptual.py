r"""Distance of VGG16 features, one number per image.

Images are (B, 3, S, S) in [-1, 1]. The net is torchvision's VGG16 up to conv3_3, frozen; the
distance is the mean absolute difference of the features after relu1_2, relu2_2 and relu3_3,
averaged over the three. It sees one random crop, the same for both sides: the whole 128 px
frame costs nine times as much as a 64 px crop.

References:
    | Perceptual Losses for Real-Time Style Transfer (Johnson et al., 2016)
    | High-Resolution Image Synthesis with Conditional GANs (Wang et al., 2018): the L1 form
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from facemorph_core.vgg import VGG16

STAGES_SEEN = 3  # up to conv3_3


class VGGPerceptual(nn.Module):
    """Frozen features and the distance between them. ``path`` is the converted VGG16 file.

    ``crop`` is in pixels; an image of that size or less is seen whole.
    """

    def __init__(self, path: Path, crop: int) -> None:
        super().__init__()
        self.crop = crop
        self.features = VGG16(load_file(path), stages=STAGES_SEEN)

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


def random_square(image_size: int, crop: int, generator: torch.Generator) -> tuple[int, int, int]:
    """(top, left, side) of a square inside the image, every place equally likely."""
    side = min(crop, image_size)
    high = image_size - side + 1
    top, left = torch.randint(high, (2,), generator=generator, device=generator.device).tolist()
    return top, left, side
