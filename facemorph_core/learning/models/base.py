r"""What every autoencoder here is: an encoder, a decoder, and numbers in between.

Images are (B, 3, S, S) floats in [-1, 1]; codes are (B, D). All state is float32 parameters
under ``encoder.`` and ``decoder.``, without buffers: exactly this travels between sites.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Posterior(NamedTuple):
    """Diagonal Gaussian q(z|x).

    Examples:
        >>> Posterior(mean=torch.ones(2, 4), log_var=torch.zeros(2, 4)).kl_to_standard_normal()
        tensor([2., 2.])
    """

    mean: Float[Tensor, "b d"]
    log_var: Float[Tensor, "b d"]

    def kl_to_standard_normal(self) -> Float[Tensor, " b"]:
        """KL(q || N(0, I)) in nats, one value per image."""
        return 0.5 * (self.mean**2 + self.log_var.exp() - 1 - self.log_var).sum(dim=1)

    def sample(self, generator: torch.Generator) -> Float[Tensor, "b d"]:
        """One draw per image by reparameterisation, gradients flow through both moments."""
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device)
        return self.mean + (0.5 * self.log_var).exp() * noise.to(self.mean)


class Reconstruction(NamedTuple):
    """What one training pass gives to the losses. ``posterior`` is None for a plain AE.

    The images are not cut to [-1, 1]: beyond a cut no gradient would lead back.

    Examples:
        >>> from facemorph_core.config.schema import AEConfig
        >>> from facemorph_core.learning.models import build_model
        >>> model = build_model(AEConfig(image_size=32, width=8, latent_dim=6))
        >>> made = model(torch.zeros(2, 3, 32, 32), torch.Generator())
        >>> made.images.shape, made.code.shape, made.posterior
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 6]), None)
    """

    images: Float[Tensor, "b 3 s s"]
    code: Float[Tensor, "b d"]
    posterior: Posterior | None


class Autoencoder(nn.Module, ABC):
    """Encoder and decoder joined by a code. Knows nothing of losses, data or devices.

    A kind of its own gives its two networks to this constructor and says what `code` and `forward`
    are; see `AE`.

    Args:
        encoder: (B, 3, S, S) in [-1, 1] -> whatever `code` makes of it.
        decoder: (B, D) -> (B, 3, S, S), meant for [-1, 1] but not bounded.
        image_size: S, pixels.
        latent_dim: D.

    Examples:
        Every number of a small image is its code:

        >>> class Numbers(Autoencoder):
        ...     def code(self, images):
        ...         return self.encoder(images)
        ...     def forward(self, images, generator):
        ...         code = self.code(images)
        ...         return Reconstruction(self.decoder(code), code, None)
        >>> parts = nn.Flatten(), nn.Unflatten(1, (3, 4, 4))
        >>> model = Numbers(*parts, image_size=4, latent_dim=48)
        >>> images = torch.rand(2, 3, 4, 4)
        >>> bool((model.decode(model.code(images)) == images).all())
        True
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, image_size: int, latent_dim: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.image_size = image_size
        self.latent_dim = latent_dim

    @abstractmethod
    def code(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """The deterministic code of each image."""

    def decode(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 s s"]:
        """The image of each code, cut to [-1, 1]."""
        return self.decoder(z).clamp(-1, 1)

    @abstractmethod
    def forward(
        self, images: Float[Tensor, "b 3 s s"], generator: torch.Generator
    ) -> Reconstruction:
        """One training pass; whatever is random in it comes from ``generator``."""
