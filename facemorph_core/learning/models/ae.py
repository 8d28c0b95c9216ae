r"""Deterministic autoencoder for aligned face crops.

Images are (B, 3, S, S) floats in [-1, 1]; codes are (B, D).

References:
    | Reducing the Dimensionality of Data with Neural Networks (Hinton & Salakhutdinov, 2006)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from facemorph_core.learning.models.base import Autoencoder, Reconstruction
from facemorph_core.learning.models.blocks import Decoder, Encoder


class AE(Autoencoder):
    """An encoder that gives the code itself. Its regulariser is the trainer's business."""

    def __init__(self, image_size: int, latent_dim: int, width: int = 64) -> None:
        super().__init__(
            Encoder(image_size, latent_dim, width),
            Decoder(image_size, latent_dim, width),
            image_size=image_size,
            latent_dim=latent_dim,
        )

    def encode(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        return self.encoder(images)

    def code(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        return self.encode(images)

    def forward(
        self, images: Float[Tensor, "b 3 s s"], generator: torch.Generator
    ) -> Reconstruction:
        """Nothing is random here; ``generator`` is not touched."""
        z = self.encode(images)
        return Reconstruction(self.decoder(z), z, None)
