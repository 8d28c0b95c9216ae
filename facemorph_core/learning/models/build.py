"""From the config's numbers to a model. The weights depend on the config and ``seed`` alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from facemorph_core.config.schema import AEConfig, AutoencoderConfig, VAEConfig, VAEGANConfig
from facemorph_core.learning.models.ae import AE
from facemorph_core.learning.models.base import Autoencoder
from facemorph_core.learning.models.blocks import initialise
from facemorph_core.learning.models.vae import VAE
from facemorph_core.learning.models.vaegan import Discriminator

M = TypeVar("M", bound=nn.Module)

MODELS: dict[type[AutoencoderConfig], Callable[[Any], Autoencoder]] = {
    AEConfig: lambda c: AE(c.image_size, c.network_numbers, c.width),
    VAEConfig: lambda c: VAE(c.image_size, c.network_numbers, c.width),
    VAEGANConfig: lambda c: VAE(c.image_size, c.network_numbers, c.width),
}
"""What each kind of the schema is. A table, so that a model of one's own is a line and nothing
else; a test holds that every kind has its line."""


def build_model(config: AutoencoderConfig, *, seed: int = 0) -> Autoencoder:
    """The model of ``config`` at its starting weights, on the CPU, float32.

    Raises:
        ValueError: the kind has no line in `MODELS`, or the sizes do not fit its networks.

    Examples:
        >>> model = build_model(AEConfig(image_size=32, width=8, latent_dim=6), seed=1)
        >>> model.decode(model.code(torch.zeros(2, 3, 32, 32))).shape
        torch.Size([2, 3, 32, 32])
    """
    if type(config) not in MODELS:
        known = ", ".join(kind.__name__ for kind in MODELS)
        raise ValueError(f"no model is known for {type(config).__name__}, only for {known}")
    with torch.device("meta"):  # no value is drawn from torch's global stream
        model = MODELS[type(config)](config)
    return _started(model, seed)


def build_discriminator(config: VAEGANConfig, *, seed: int = 0) -> Discriminator:
    """The discriminator of a site, at its starting weights."""
    with torch.device("meta"):
        discriminator = Discriminator(config.discriminator_width)
    return _started(discriminator, seed)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _started(module: M, seed: int) -> M:
    module = module.to_empty(device="cpu")
    initialise(module, torch.Generator().manual_seed(seed))
    return module
