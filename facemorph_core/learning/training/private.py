r"""A local round under DP-SGD: Poisson sampling, one gradient per photo, clipped, noised.

What is protected: the weights that the round returns are (epsilon, delta)-DP for **one photo**
of this shard, under adding or removing it, composed over every release about it in the site's
ledger. A person with several photos is not covered as a unit. The number of training photos is
taken as public (it is the site's weight in the mean and decides the sampling rate).

What one photo can do to the sum of a step is bounded by clipping, so nothing else may lead from
one photo to another. Each photo therefore goes through the networks alone: what is drawn for it
(mirroring, light, posterior noise, crop) belongs to it and not to its place in a batch, and so
does the rounding, which depends on the size of a batch and which crafted weights can enlarge to
anything. On a CPU that takes 1.4 times as long as Opacus' gradients of whole batches. The round is
charged before its first step and stays charged whatever happens.

What is not covered never leaves: losses are computed on the photos without noise and are for the
site's own screen only. How long a round takes tells roughly how many photos were drawn, and is
not covered.

References:
    | Deep Learning with Differential Privacy (Abadi et al., 2016)
"""

from __future__ import annotations

import copy
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
from facemorph_core.learning.training.compute import choose_compute, cpu_threads
from facemorph_core.learning.training.ema import Ema
from facemorph_core.learning.training.local import OnStep, TrainedRound, at_rest
from facemorph_core.learning.training.objective import (
    load_feature_nets,
    reconstruction_terms,
    total,
    weights_at,
)
from facemorph_core.learning.training.optimiser import adam, set_rate
from facemorph_core.learning.training.schedule import learning_rate, share_at
from facemorph_core.learning.training.trainer import (
    Moment,
    Tally,
    add_proximal_gradient,
    check_finite_weights,
)


class PrivateFaces(Faces, Photos, Protocol):
    """Faces of which it is known which photos they are, and of whom."""

    @property
    def people(self) -> list[str]:
        """Whose photo each row is."""


def train_privately(
    model: Autoencoder,
    shard: PrivateFaces,
    config: RunConfig,
    *,
    epochs: int,
    progress: tuple[float, float] = (0.0, 1.0),
    ledger: SiteLedger,
    limits: SiteLimits,
    proximal_mu: float = 0.0,
    on_step: OnStep | None = None,
    secret: Secret | None = None,
) -> TrainedRound:
    """Train ``model`` in place on the shard's "train" split under ``config.privacy``.

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
    privacy = private_config(config)
    limits.check_training(config, ledger)
    rows, photos = distinct(shard, train_rows(shard, model.image_size))
    limits.check_faces(photos=len(rows), people=len({shard.people[row] for row in rows.tolist()}))
    event = planned_release(config, privacy, examples=len(rows), epochs=epochs)
    delta = limits.delta(privacy.delta, photos=len(rows))
    limit = limits.epsilon(privacy.max_epsilon)
    trained, secret = copy.deepcopy(model), secret or Secret()
    with cpu_threads(config.training.threads):
        trainer = PrivateTrainer(trained, config, secret=secret, proximal_mu=proximal_mu)
        spent = ledger.charge(photos, event, delta=delta, limit=limit)
        for done in range(event.steps):
            at = Moment(share_at(progress, done, event.steps), 0, done)
            batch = poisson_batch(rows, event.sample_rate, secret, step=done)
            terms = trainer.step(shard, batch, at, expected=event.sample_rate * len(rows))
            if on_step is not None:
                on_step(done + 1, event.steps, terms)
        weights = trainer.finish()
    model.load_state_dict(weights)
    at_rest(model)
    return TrainedRound(len(rows), {**spent.as_record(), "steps": float(event.steps)})


def private_config(config: RunConfig) -> PrivacyConfig:
    """The privacy section, which must be there."""
    if config.privacy is None:
        raise ConfigError("the config", ["privacy: needed for private training, but absent"])
    return config.privacy


def planned_release(
    config: RunConfig, privacy: PrivacyConfig, *, examples: int, epochs: int
) -> GaussianSteps:
    """What a round of so many epochs will have released: known before it starts."""
    rate = min(1.0, config.training.batch_size / examples)
    steps = epochs * -(-examples // config.training.batch_size)
    return GaussianSteps(privacy.noise_multiplier, rate, steps)


class PrivateTrainer:
    """The steps of one private round; changes the model in place."""

    def __init__(
        self, model: Autoencoder, config: RunConfig, *, secret: Secret, proximal_mu: float = 0.0
    ) -> None:
        self.device = choose_compute(config.training).device
        self.model = model.to(self.device).train()
        self.parameters = list(model.parameters())
        self.config, self.privacy, self.secret = config, private_config(config), secret
        self.nets = load_feature_nets(config, self.device)
        self.optimiser = adam(self.parameters, config.training)
        self.ema = Ema(model, config.training.ema_decay) if config.training.ema_decay else None
        self.proximal_mu = proximal_mu
        self.anchor = [p.detach().clone() for p in self.parameters] if proximal_mu else []

    def step(
        self, faces: Faces, batch: NDArray[np.int64], at: Moment, *, expected: float
    ) -> dict[str, float]:
        """One noised step on the photos of ``batch``, of which ``expected`` are expected.

        An empty batch is a step like any other: only noise.

        Returns:
            The means of the terms, without noise.
        """
        summed, tally = ClippedSum(self.parameters, self.privacy.max_grad_norm), Tally()
        for row in batch.tolist():
            gradients, terms = self.gradients_of(faces, row, at)
            summed.add(gradients)
            tally.add(terms, 1)
        self._update(summed, at, expected)
        return tally.means() if tally.images else {}

    def gradients_of(
        self, faces: Faces, row: int, at: Moment
    ) -> tuple[tuple[Tensor, ...], dict[str, float]]:
        """The gradient of one photo's loss, a tensor for each parameter, and its terms."""

        def drawn(what: str) -> torch.Generator:
            return self.secret.generator(what, at.step, row)

        batch = load_batch(faces, np.array([row]), self.config, self.device)
        batch = augmented(batch, self.config.training, drawn("change"))
        made: Reconstruction = self.model(batch.images, drawn("posterior"))
        terms = reconstruction_terms(made, batch, self.config, nets=self.nets, crops=drawn("crop"))
        weights = weights_at(self.config.loss, at.share, latent_dim=self.model.latent_dim)
        loss = total(terms, weights).sum()
        values = {name: float(term.detach()) for name, term in terms.items()}
        return torch.autograd.grad(loss, self.parameters), values | {"loss": float(loss.detach())}

    def finish(self) -> dict[str, Tensor]:
        """The weights that the round releases."""
        if self.ema is not None:
            self.ema.copy_to(self.model)
        weights = {name: value.detach().cpu() for name, value in self.model.state_dict().items()}
        check_finite_weights(weights, after="the private round")
        return weights

    def _update(self, summed: ClippedSum, at: Moment, expected: float) -> None:
        """Step with the noised gradient; what happens after the noise reads no photo."""
        noised = summed.noised(self.privacy.noise_multiplier, self.secret, step=at.step)
        for parameter, gradient in zip(self.parameters, noised, strict=True):
            parameter.grad = (gradient / expected).to(parameter)
        if self.proximal_mu:
            add_proximal_gradient(self.model, self.anchor, self.proximal_mu)
        set_rate(self.optimiser, learning_rate(self.config.training, at.share))
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update(self.model)
