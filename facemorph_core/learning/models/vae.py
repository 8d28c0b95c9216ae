r"""Variational autoencoder for aligned face crops.

Images are (B, 3, S, S) floats in [-1, 1]; codes are (B, D).

References:
    | Auto-Encoding Variational Bayes (Kingma & Welling, 2014)
    | https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from facemorph_core.learning.models.base import Autoencoder, Posterior, Reconstruction
from facemorph_core.learning.models.blocks import Decoder, Encoder

LOG_VAR_RANGE = (-20.0, 10.0)  # beyond it exp() overflows or the noise is below rounding


class VAE(Autoencoder):
    """Encoder and decoder joined by a Gaussian latent. Its code is the posterior's mean."""

    def __init__(self, image_size: int, latent_dim: int, width: int = 64) -> None:
        super().__init__(
            Encoder(image_size, latent_dim, width, log_var=True),
            Decoder(image_size, latent_dim, width),
            image_size=image_size,
            latent_dim=latent_dim,
        )

    def encode(self, images: Float[Tensor, "b 3 s s"]) -> Posterior:
        mean, log_var = self.encoder(images).chunk(2, dim=1)
        return Posterior(mean, log_var.clamp(*LOG_VAR_RANGE))

    def code(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        return self.encode(images).mean

    def forward(
        self, images: Float[Tensor, "b 3 s s"], generator: torch.Generator
    ) -> Reconstruction:
        posterior = self.encode(images)
        z = posterior.sample(generator)
        return Reconstruction(self.decoder(z), z, posterior)
