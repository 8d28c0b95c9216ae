"""What one photo can do to a step of private training: the law that epsilon rests on.

With every draw known to the attacker, taking one photo away may move the sum of clipped gradients
by at most the bound. And clipping bounds the right thing only if the photos' gradients are right.
"""

from __future__ import annotations

import copy
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.audit.photos import Photos, extremes
from facemorph_core.config.schema import RunConfig
from facemorph_core.learning.losses.terms import l1
from facemorph_core.learning.models import Autoencoder, Posterior, build_model
from facemorph_core.learning.models.blocks import ResidualBlock
from facemorph_core.learning.privacy import Heads, SiteLedger, SiteLimits
from facemorph_core.learning.privacy.secret import Secret
from facemorph_core.learning.training.batches import load_batch
from facemorph_core.learning.training.local import LocalRound
from facemorph_core.learning.training.private import PhotoGradients, private_config, train_privately
from facemorph_core.learning.training.trainer import Moment

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
            "privacy": {"noise_multiplier": 1.0, **privacy},
        }
    )


def awake_model(config: RunConfig) -> Autoencoder:
    """A model whose residual branches are switched on, so that all its weights matter."""
    model, generator = build_model(config.model, seed=1), torch.Generator().manual_seed(7)
    for block in model.modules():
        if isinstance(block, ResidualBlock):
            torch.nn.init.normal_(block.conv_b.weight, std=0.05, generator=generator)
    return model


def private_round(model: Autoencoder, photos: Photos, config: RunConfig) -> None:
    """A real round of private training, with a ledger that is forgotten after it."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = SiteLedger(Path(folder) / "privacy.jsonl", Heads(Path(folder) / "heads"))
        limits = SiteLimits.of_a_simulation()
        train_privately(model, photos, LocalRound(config, epochs=1), ledger=ledger, limits=limits)


def clipped_sum(config: RunConfig, model: Autoencoder, photos: Photos, key: bytes) -> Tensor:
    """The sum of clipped gradients of all ``photos``, flat, as a step of training makes it."""
    gradients = PhotoGradients(copy.deepcopy(model), config, secret=Secret(key), expected=1.0)
    summed, _ = gradients.clipped_sum(photos, photos.rows("train"), START)
    return torch.cat([each.flatten() for each in summed.total])


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
    """The largest relative error in a layer of the photos' gradients, added up.

    The other way to their sum is the gradient of the whole batch at once, as ordinary training
    has it.
    """
    config = private_run(kind, "plain", size, drawn=False)
    photos, model = extremes(3, size, seed=0), awake_model(config)
    only_l1 = config.loss.model_copy(update={"kl": 0.0, "latent_l2": 0.0})
    config = config.model_copy(update={"loss": only_l1})
    images = load_batch(photos, photos.rows("train"), config, torch.device("cpu")).images
    secret = Secret(bytes(32))
    gradients = PhotoGradients(awake_model(config), config, secret=secret, expected=1.0)
    with _without_noise():
        made = model.train()(images, torch.Generator()).images
        loss = config.loss.l1 * l1(made, images).sum()
        whole = torch.autograd.grad(loss, list(model.parameters()))
        parts = [gradients.of_photo(photos, row, START)[0] for row in range(3)]
    rounding = 1e-5 * max(float(gradient.norm()) for gradient in whole)
    return max(
        float((sum(each) - gradient).norm() / gradient.norm())
        for gradient, *each in zip(whole, *parts, strict=True)
        if float(gradient.norm()) > rounding
    )


def _without_noise() -> AbstractContextManager[object]:
    """Posteriors at their mean: so that a batch and its photos see the same."""
    return mock.patch.object(Posterior, "sample", lambda posterior, _: posterior.mean)
