r"""A local round under DP-SGD: Poisson sampling, one gradient per photo, clipped, noised.

What is protected: the weights that the round returns are (epsilon, delta)-DP for **one photo**
of this shard, under adding or removing it, composed over every release about it in the site's
ledger. A person with several photos is not covered as a unit. The number of training photos is
taken as public (it is the site's weight in the mean and decides the sampling rate).

What one photo can do to the sum of a step is bounded by clipping, so nothing else may lead from
one photo to another: what is drawn for a photo (its mirroring, light, posterior noise, crop)
belongs to the photo and not to its place in the batch, and a gradient that is not finite counts
as 0. The round is charged before its first step and stays charged whatever happens.

What is not covered never leaves: losses are computed on the photos without noise and are for the
site's own screen only. How long a round takes tells roughly how many photos were drawn, and is
not covered.

References:
    | Deep Learning with Differential Privacy (Abadi et al., 2016)
    | Opacus: User-Friendly Differential Privacy Library in PyTorch (Yousefpour et al., 2021)
"""

from __future__ import annotations

import copy
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule

from facemorph_core.config.schema import PrivacyConfig, RunConfig
from facemorph_core.errors import ConfigError
from facemorph_core.models import Autoencoder, Reconstruction
from facemorph_core.models.convolution import Conv2d
from facemorph_core.privacy import GaussianSteps, SiteLedger, SiteLimits, photos_of
from facemorph_core.privacy.mechanism import NoisyOptimizer, poisson_batch
from facemorph_core.privacy.photos import Photos
from facemorph_core.privacy.secret import Secret
from facemorph_core.training.augment import augmented
from facemorph_core.training.batches import Faces, load_batch, train_rows
from facemorph_core.training.compute import choose_compute, cpu_threads
from facemorph_core.training.ema import Ema
from facemorph_core.training.local import OnStep, TrainedRound, at_rest
from facemorph_core.training.objective import (
    load_feature_nets,
    reconstruction_terms,
    total,
    weights_at,
)
from facemorph_core.training.optimiser import adam, set_rate
from facemorph_core.training.photo_gradients import of_each_photo
from facemorph_core.training.schedule import learning_rate, share_at
from facemorph_core.training.trainer import (
    Moment,
    Tally,
    add_proximal_gradient,
    check_finite_weights,
)

GradSampleModule.GRAD_SAMPLERS[Conv2d] = of_each_photo


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
        LimitsExceeded, BudgetExhausted: before a photo was read; nothing is charged.
        LedgerError: the ledger is damaged, or the charge could not be written.
        TrainingDiverged: the model is what it was; the round is charged all the same.
    """
    privacy = private_config(config)
    limits.check_training(config, ledger)
    rows = train_rows(shard, model.image_size)
    event = planned_release(config, privacy, examples=len(rows), epochs=epochs)
    delta = limits.delta(privacy.delta)
    trained, secret = copy.deepcopy(model), secret or Secret()
    with cpu_threads(config.training.threads):
        trainer = PrivateTrainer(
            trained,
            config,
            expected_batch=event.sample_rate * len(rows),
            secret=secret,
            proximal_mu=proximal_mu,
        )
        epsilon = ledger.charge(
            photos_of(shard, "train"),
            event,
            delta=delta,
            limit=limits.epsilon(privacy.max_epsilon),
        )
        for done in range(event.steps):
            at = Moment(share_at(progress, done, event.steps), 0, done)
            terms = trainer.step(
                shard, poisson_batch(rows, event.sample_rate, secret, step=done), at
            )
            if on_step is not None:
                on_step(done + 1, event.steps, terms)
        weights = trainer.finish()
    model.load_state_dict(weights)
    at_rest(model)
    return TrainedRound(
        len(rows), {"epsilon": epsilon, "delta": delta, "steps": float(event.steps)}
    )


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
    """The steps of one private round on a copy of the model."""

    def __init__(
        self,
        model: Autoencoder,
        config: RunConfig,
        *,
        expected_batch: float,
        secret: Secret,
        proximal_mu: float,
    ) -> None:
        privacy = private_config(config)
        self.device = choose_compute(config.training).device
        self.model = model.to(self.device).train()
        self.config, self.privacy, self.secret = config, privacy, secret
        self.nets = load_feature_nets(config, self.device)
        self.ema = Ema(model, config.training.ema_decay) if config.training.ema_decay else None
        self.proximal_mu = proximal_mu
        self.anchor = [p.detach().clone() for p in model.parameters()] if proximal_mu else []
        self.wrapped = GradSampleModule(model, loss_reduction="sum")
        self.optimiser = NoisyOptimizer(
            adam(model.parameters(), config.training),
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.max_grad_norm,
            expected_batch_size=expected_batch,
            secret=secret,
        )

    def step(self, faces: Faces, batch: NDArray[np.int64], at: Moment) -> dict[str, float]:
        """One noised step. An empty batch is a step like any other: only noise."""
        tally = Tally()
        parts = _physical(batch, self.privacy.max_physical_batch)
        for number, part in enumerate(parts):
            if len(part):
                tally.add(self.per_photo_gradients(faces, part, at), len(part))
            else:
                _no_gradients(self.model)
            is_last = number == len(parts) - 1
            self.optimiser.signal_skip_step(do_skip=not is_last)
            released = self.optimiser.pre_step()
            if released:
                self._update(at)
            self.optimiser.zero_grad(set_to_none=True)
        return tally.means() if tally.images else {}

    def finish(self) -> dict[str, torch.Tensor]:
        """The weights that the round releases."""
        model = self.wrapped.to_standard_module()
        if self.ema is not None:
            self.ema.copy_to(model)
        weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        check_finite_weights(weights, after="the private round")
        return weights

    def per_photo_gradients(
        self, faces: Faces, rows: NDArray[np.int64], at: Moment
    ) -> dict[str, float]:
        """Leaves one gradient per photo in ``grad_sample`` of each parameter.

        Returns:
            The means of the terms, without noise.
        """
        batch = load_batch(faces, rows, self.config, self.device)
        batch = augmented(batch, self.config.training, self._drawn("change", rows, at))
        images = batch.images
        images.requires_grad_()  # else Opacus' backward hook on the first layer complains
        made: Reconstruction = self.wrapped(images, self._drawn("posterior", rows, at))
        terms = reconstruction_terms(
            made,
            batch,
            self.config,
            nets=self.nets,
            crops=self._drawn("crop", rows, at),
        )
        weights = weights_at(self.config.loss, at.share, latent_dim=self.model.latent_dim)
        losses = total(terms, weights)
        torch.autograd.backward(losses.sum())
        values = {name: float(term.detach().mean()) for name, term in terms.items()}
        return values | {"loss": float(losses.detach().mean())}

    def _drawn(self, what: str, rows: NDArray[np.int64], at: Moment) -> list[torch.Generator]:
        return self.secret.generators(rows.tolist(), what, at.step)

    def _update(self, at: Moment) -> None:
        """Step with the noised gradient; what happens here reads no photo."""
        if self.proximal_mu:
            add_proximal_gradient(self.model, self.anchor, self.proximal_mu)
        inner = self.optimiser.original_optimizer
        set_rate(inner, learning_rate(self.config.training, at.share))
        inner.step()
        if self.ema is not None:
            self.ema.update(self.model)


def _physical(batch: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """A batch in pieces that fit in memory; an empty batch is one empty piece."""
    return [batch[start : start + size] for start in range(0, max(len(batch), 1), size)]


def _no_gradients(model: Autoencoder) -> None:
    """Zero photos' worth of per-photo gradients."""
    for parameter in model.parameters():
        parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))  # type: ignore[attr-defined]
