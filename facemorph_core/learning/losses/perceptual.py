r"""Distance of VGG16 features, one number per image.

Images are (B, 3, S, S) in [-1, 1]; the net is torchvision's VGG16, frozen. There are two ways:

    | features  mean absolute difference after relu1_2, relu2_2 and relu3_3, averaged over them
    | lpips     at each pixel of all five stages (to relu5_3) the squared difference of the feature
    |           vectors at length 1, weighed by LPIPS's heads for VGG16

It sees one random crop, the same for both sides: the whole 128 px frame costs nine times as much
as a 64 px crop. Faces are judged by LPIPS on AlexNet, which no loss reads.

References:
    | Perceptual Losses for Real-Time Style Transfer (Johnson et al., 2016)
    | High-Resolution Image Synthesis with Conditional GANs (Wang et al., 2018): the L1 form
    | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from facemorph_core.learning.nets.lpips_heads import stage_distance
from facemorph_core.learning.nets.vgg import STAGES, VGG16

STAGES_SEEN = 3  # without heads: up to conv3_3
SHORTEST = 1e-3  # of a feature vector: the gradient of a length near 0 has no bound


class VGGPerceptual(nn.Module):
    """Frozen features and the distance between them. ``path`` is the converted VGG16 file.

    ``crop`` is in pixels; an image of that size or less is seen whole. With ``heads``, (1, C, 1, 1)
    for each stage, the distance is LPIPS.
    """

    def __init__(self, path: Path, crop: int, heads: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.crop = crop
        self.features = VGG16(load_file(path), stages=len(STAGES) if heads else STAGES_SEEN)
        self.heads = nn.ParameterList(heads).requires_grad_(False)

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
        pairs = zip(self.features(made[window]), wanted, strict=True)
        if self.heads:
            terms = [
                stage_distance(a, b, head, shortest=SHORTEST)
                for (a, b), head in zip(pairs, self.heads, strict=True)
            ]
            return torch.stack(terms).sum(dim=0)
        return torch.stack([absolute(a, b) for a, b in pairs]).mean(dim=0)


def absolute(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Mean absolute difference."""
    return (a.float() - b.float()).abs().mean(dim=(1, 2, 3))


def random_square(image_size: int, crop: int, generator: torch.Generator) -> tuple[int, int, int]:
    """(top, left, side) of a square inside the image, every place equally likely."""
    side = min(crop, image_size)
    high = image_size - side + 1
    top, left = torch.randint(high, (2,), generator=generator, device=generator.device).tolist()
    return top, left, side
