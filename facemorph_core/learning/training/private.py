r"""A local round under DP-SGD: Poisson sampling, one gradient per photo, clipped, noised.

What is protected: the weights that the round returns are (epsilon, delta)-DP for **one photo**
of this shard, under adding or removing it, composed over every release about it in the site's
ledger. A person with several photos is not covered as a unit. The number of training photos is
taken as public (it is the site's weight in the mean and decides the sampling rate).

What one photo can do to the sum of a step is bounded by clipping, so nothing else may lead from
one photo to another. Each photo therefore goes through the networks alone: what is drawn for it
(mirroring, light, posterior noise, crop) belongs to it and not to its place in a batch, and so
does the rounding, which depends on the size of a batch and which crafted weights can enlarge to
anything. On a CPU that takes 1.4 times as long as Opacus' gradients of whole batches. A GPU adds
up in one order while a gradient is computed, and where it cannot (the identity term), the round is
computed on the CPU. The round is charged before its first step and stays charged
whatever happens.

What is not covered never leaves: losses are computed on the photos without noise and are for the
site's own screen only. How long a round takes tells roughly how many photos were drawn, and is
not covered.

References:
    | Deep Learning with Differential Privacy (Abadi et al., 2016)
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facemorph_core.config.schema import PrivacyConfig, RunConfig
from facemorph_core.errors import ConfigError
from facemorph_core.learning.models import Autoencoder, Reconstruction
from facemorph_core.learning.privacy import GaussianSteps, SiteLedger, SiteLimits
from facemorph_core.learning.privacy.mechanism import ClippedSum, poisson_batch
from facemorph_core.learning.privacy.photos import Photos, distinct
from facemorph_core.learning.privacy.secret import Secret
from facemorph_core.learning.training.augment import augmented
from facemorph_core.learning.training.batches import Faces, load_batch, train_rows
from facemorph_core.learning.training.compute import Compute, choose_compute
from facemorph_core.learning.training.discriminator import DiscriminatorState
from facemorph_core.learning.training.local import (
    LocalRound,
    TrainedRound,
    in_training,
    take_steps,
)
from facemorph_core.learning.training.objective import (
    load_feature_nets,
    reconstruction_terms,
    total,
    weights_at,
)
from facemorph_core.learning.training.trainer import Moment, Tally, Trainer


class PrivateFaces(Faces, Photos, Protocol):
    """Faces of which it is known which photos they are, and of whom."""

    @property
    def people(self) -> list[str]:
        """Whose photo each row is."""


def train_privately(
    model: Autoencoder,
    shard: PrivateFaces,
    work: LocalRound,
    *,
    ledger: SiteLedger,
    limits: SiteLimits,
    secret: Secret | None = None,
) -> TrainedRound:
    """Train ``model`` in place on the shard's "train" split under ``privacy`` of the config.

    Always float32, and nothing random comes from the run's seed. ``training.grad_clip`` is not
    used: each photo's gradient is clipped instead. ``on_step`` sees losses that DP does not
    cover: for the site's own screen only. ``secret`` is for tests: what anybody could repeat
    protects nothing.

    Returns:
        The metrics "epsilon" (of all that was ever released about these photos), "delta" and
        "steps".

    Raises:
        LimitsExceeded, DeltaTooLarge, BudgetExhausted: before a photo was read; nothing is
            charged.
        LedgerError: the ledger is damaged, or the charge could not be written.
        TrainingDiverged: the model is what it was; the round is charged all the same.
    """
    config, privacy = work.config, private_config(work.config)
    limits.check_training(config, ledger)
    rows, photos = distinct(shard, train_rows(shard, model.image_size))
    limits.check_faces(photos=len(rows), people=len({shard.people[row] for row in rows.tolist()}))
    event = planned_release(work, examples=len(rows))
    rate, steps = event.sample_rate, event.steps
    delta = limits.delta(privacy.delta, event.unit, count=len(rows))
    limit = limits.epsilon(privacy.max_epsilon)
    secret = secret or Secret()
    with in_training(model, config):
        gradients = PhotoGradients(model, config, secret=secret, expected=rate * len(rows))
        trainer = Trainer(gradients, proximal_mu=work.proximal_mu)
        spent = ledger.charge(photos, event, delta=delta, limit=limit)
        drawn = (poisson_batch(rows, rate, secret, step=step) for step in range(steps))
        take_steps(trainer, shard, work, [drawn], steps=steps)
    return TrainedRound(len(rows), {**spent.as_record(), "steps": float(steps)})


def private_config(config: RunConfig) -> PrivacyConfig:
    """The privacy section, which must be there."""
    if config.privacy is None:
        raise ConfigError("the config", ["privacy: needed for private training, but absent"])
    return config.privacy


def planned_release(work: LocalRound, *, examples: int) -> GaussianSteps:
    """What a round over so many photos will have released: known before it starts."""
    rate = min(1.0, work.config.training.batch_size / examples)
    noise = private_config(work.config).noise_multiplier
    return GaussianSteps(noise, rate, work.steps(examples), unit="photo")


class PhotoGradients:
    """The gradient of a step of DP-SGD (`Gradients`): a noised sum of bounded ones of photos.

    The sum is divided by how many photos are ``expected`` in a batch: how many there are is not
    told.
    """

    longest = math.inf
    discriminator: DiscriminatorState | None = None

    def __init__(
        self, model: Autoencoder, config: RunConfig, *, secret: Secret, expected: float
    ) -> None:
        self.config, self.privacy = config, private_config(config)
        self.secret, self.expected = secret, expected
        self.compute = repeatable_compute(config)
        self.model = model.to(self.compute.device).train()
        self.parameters = list(model.parameters())
        self.nets = load_feature_nets(config, self.compute.device)

    def fill(self, faces: Faces, rows: NDArray[np.int64], at: Moment) -> dict[str, float]:
        """Put the noised gradient into the model's parameters; what comes after reads no photo.

        An empty batch is a step like any other: only noise.

        Returns:
            The means of the terms, without noise; empty for an empty batch.
        """
        summed, tally = self.clipped_sum(faces, rows, at)
        noised = summed.noised(self.privacy.noise_multiplier, self.secret, step=at.step)
        for parameter, gradient in zip(self.parameters, noised, strict=True):
            parameter.grad = (gradient / self.expected).to(parameter)
        return tally.means() if tally.images else {}

    def clipped_sum(
        self, faces: Faces, rows: NDArray[np.int64], at: Moment
    ) -> tuple[ClippedSum, Tally]:
        """The sum before the noise, and its terms: nothing of it may leave."""
        summed, tally = ClippedSum(self.parameters, self.privacy.max_grad_norm), Tally()
        for row in rows.tolist():
            gradients, terms = self.of_photo(faces, row, at)
            summed.add(gradients)
            tally.add(terms, 1)
        return summed, tally

    def of_photo(
        self, faces: Faces, row: int, at: Moment
    ) -> tuple[tuple[Tensor, ...], dict[str, float]]:
        """The gradient of one photo's loss, a tensor for each parameter, and its terms."""

        def drawn(what: str) -> torch.Generator:
            return self.secret.generator(what, at.step, row)

        batch = load_batch(faces, np.array([row]), self.config, self.compute.device)
        batch = augmented(batch, self.config.training, drawn("change"))
        weights = weights_at(self.config.loss, at.share, latent_dim=self.model.latent_dim)
        with self.compute.repeatable(strictly=True):
            made: Reconstruction = self.model(batch.images, drawn("posterior"))
            crops = drawn("crop")
            terms = reconstruction_terms(made, batch, self.config, nets=self.nets, crops=crops)
            loss = total(terms, weights).sum()
            gradients = torch.autograd.grad(loss, self.parameters)
        values = {name: float(term.detach()) for name, term in terms.items()}
        return gradients, values | {"loss": float(loss.detach())}


def repeatable_compute(config: RunConfig) -> Compute:
    """In float32, where a photo's gradient is the same whatever else was computed."""
    chosen = choose_compute(config.training)
    device = torch.device("cpu") if config.loss.identity else chosen.device
    return Compute(device, bfloat16=False)
