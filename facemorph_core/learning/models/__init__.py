"""Autoencoders of faces, and the discriminator that stays beside them."""

from facemorph_core.learning.models.ae import AE
from facemorph_core.learning.models.base import Autoencoder, Posterior, Reconstruction
from facemorph_core.learning.models.build import build_discriminator, build_model, count_parameters
from facemorph_core.learning.models.vae import VAE
from facemorph_core.learning.models.vaegan import Discriminator

__all__ = [
    "AE",
    "VAE",
    "Autoencoder",
    "Discriminator",
    "Posterior",
    "Reconstruction",
    "build_discriminator",
    "build_model",
    "count_parameters",
]
