r"""The discriminator of the VAE-GAN. The autoencoder beside it is the plain VAE.

It scores patches: (B, 3, S, S) in [-1, 1] -> (B, S/16, S/16), 1 meaning real and 0 meaning
made (least squares, so the scores are not bounded). It is trained at each site and never
leaves it: it has seen the photos more closely than anything that is sent.

References:
    | Autoencoding beyond pixels using a learned similarity metric (Larsen et al., 2016)
    | Least Squares Generative Adversarial Networks (Mao et al., 2017)
    | Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017)
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from facemorph_core.learning.models.blocks import GROUPS, STEM

SLOPE = 0.2  # of the leaky ReLU, as in Radford et al. (2016)


class Discriminator(nn.Module):
    """Patch scores of images; a patch sees about a third of the frame at 128 px."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(STEM),
            nn.Conv2d(3 * STEM**2, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
        ]
        for before, after in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.GroupNorm(GROUPS, after),
                nn.LeakyReLU(SLOPE),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 3, padding=1))

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b h w"]:
        return self.layers(images).squeeze(1).float()
