"""From the config's numbers to a model. The weights depend on the config and ``seed`` alone."""

from __future__ import annotations

from typing import TypeVar, assert_never

import torch
from torch import nn

from facemorph_core.config.schema import AEConfig, ModelConfig, VAEConfig, VAEGANConfig
from facemorph_core.learning.models.ae import AE
from facemorph_core.learning.models.base import Autoencoder
from facemorph_core.learning.models.blocks import initialise
from facemorph_core.learning.models.vae import VAE
from facemorph_core.learning.models.vaegan import Discriminator

M = TypeVar("M", bound=nn.Module)


def build_model(config: ModelConfig, *, seed: int = 0) -> Autoencoder:
    """Adding a kind to the schema without a line here fails the type check, not a run."""
    with torch.device("meta"):  # no value is drawn from torch's global stream
        model = _bare(config)
    return _started(model, seed)


def build_discriminator(config: VAEGANConfig, *, seed: int = 0) -> Discriminator:
    """The discriminator of a site, at its starting weights."""
    with torch.device("meta"):
        discriminator = Discriminator(config.discriminator_width)
    return _started(discriminator, seed)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _bare(config: ModelConfig) -> Autoencoder:
    match config:
        case AEConfig():
            return AE(config.image_size, config.network_numbers, config.width)
        case VAEConfig() | VAEGANConfig():
            return VAE(config.image_size, config.network_numbers, config.width)
        case _:
            assert_never(config)


def _started(module: M, seed: int) -> M:
    module = module.to_empty(device="cpu")
    initialise(module, torch.Generator().manual_seed(seed))
    return module
