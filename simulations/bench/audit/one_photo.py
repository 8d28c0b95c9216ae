"""What one photo can do to a step of private training: the law that epsilon rests on.

With every draw known to the attacker, taking one photo away may move the sum of clipped gradients
by at most the bound. And clipping bounds the right thing only if per-photo gradients are right.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from facemorph_core.config.schema import RunConfig
from facemorph_core.models import Autoencoder, build_model
from facemorph_core.models.blocks import ResidualBlock
from facemorph_core.privacy.secret import Secret
from facemorph_core.training.private import PrivateTrainer, private_config
from facemorph_core.training.trainer import Moment
from simulations.bench.audit.photos import Photos, extremes

START = Moment(1.0, 0, 0)


def private_run(
    kind: str, geometry: str, size: int, *, drawn: bool = True, **privacy: float
) -> RunConfig:
    """A config with everything in it that draws at random for a photo, or as little as can be."""
    return RunConfig.model_validate(
        {
            "name": "audit",
            "model": {
                "kind": kind,
                "geometry": geometry,
                "image_size": size,
                "width": 8,
                "latent_dim": 32,
            },
            "training": {
                "batch_size": 16,
                "mirror": drawn,
                "light": 0.3 if drawn else 0.0,
                "learning_rate": 1e-3,
                "threads": 1,
            },
            "privacy": {"noise_multiplier": 1.0, "max_physical_batch": 8, **privacy},
        }
    )


def awake_model(config: RunConfig) -> Autoencoder:
    """A model whose residual branches are switched on, so that all its weights matter."""
    model, generator = build_model(config.model, seed=1), torch.Generator().manual_seed(7)
    for block in model.modules():
        if isinstance(block, ResidualBlock):
            torch.nn.init.normal_(block.conv_b.weight, std=0.05, generator=generator)
    return model


def clipped_sum(config: RunConfig, model: Autoencoder, photos: Photos, key: bytes) -> Tensor:
    """The sum of clipped gradients of all ``photos``, flat, as one step of training has it."""
    trainer = _trainer(config, model, key)
    for part in np.array_split(photos.rows("train"), -(-len(photos.rows("train")) // 8)):
        trainer.per_photo_gradients(photos, part, START)
        trainer.optimiser.clip_and_accumulate()
        for parameter in trainer.model.parameters():
            parameter.grad_sample = None  # type: ignore[attr-defined]
    return torch.cat([p.summed_grad.flatten() for p in trainer.model.parameters()])  # type: ignore[attr-defined]


def influence(kind: str, geometry: str, *, size: int, count: int, tries: int) -> float:
    """The furthest that taking one of ``count`` photos away moved the sum, in bounds; 1 is allowed.

    The first in the batch is among those: everything that might depend on the place in a batch
    comes behind it.
    """
    config = private_run(kind, geometry, size, max_grad_norm=0.01)
    model, photos, key = awake_model(config), extremes(count, size, seed=0), bytes(32)
    whole = clipped_sum(config, model, photos, key)
    moved = []
    for away in np.linspace(0, count - 1, tries).astype(int).tolist():
        without = clipped_sum(config, model, photos.without(away), key)
        moved.append(float((whole - without).norm()))
    return max(moved) / private_config(config).max_grad_norm


def gradient_error(kind: str, *, size: int) -> float:
    """The largest relative error of a layer's per-photo gradient against single photos."""
    config = private_run(kind, "plain", size)
    model, photos, key = awake_model(config), extremes(3, size, seed=0), bytes(32)
    together = _trainer(config, model.to(memory_format=torch.channels_last), key)
    together.per_photo_gradients(photos, photos.rows("train"), START)
    found = {n: p.grad_sample for n, p in together.model.named_parameters()}  # type: ignore[attr-defined]
    worst = 0.0
    for row in photos.rows("train"):
        alone = _trainer(config, awake_model(config), key)
        plain = alone.wrapped = alone.wrapped.to_standard_module().train()
        alone.per_photo_gradients(photos, np.array([row]), START)
        single = {name: p.grad for name, p in plain.named_parameters()}
        rounding = 1e-5 * max(float(gradient.norm()) for gradient in single.values())
        for name, gradient in single.items():
            if float(gradient.norm()) > rounding:
                error = (found[name][row] - gradient).norm() / gradient.norm()
                worst = max(worst, float(error))
    return worst


def _trainer(config: RunConfig, model: Autoencoder, key: bytes) -> PrivateTrainer:
    return PrivateTrainer(
        copy.deepcopy(model), config, expected_batch=1.0, secret=Secret(key), proximal_mu=0.0
    )
