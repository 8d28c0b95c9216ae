r"""A local round under DP-SGD: Poisson sampling, one gradient per photo, clipped, noised.

What is protected: the weights that the round returns are (epsilon, delta)-DP for **one photo**
of this shard, under adding or removing it, composed over every release in the site's ledger. A
person with several photos is not covered as a unit. The number of training photos is taken as
public (it is the site's weight in the mean and decides the sampling rate).

What is not covered never leaves: losses are computed on the photos without noise, so the
metrics hold only epsilon, delta, steps and seconds ("seconds" tells roughly how many photos the
Poisson samples had; a site for which that is too much rounds it).

Which photos are drawn and the noise come from the operating system's entropy, never from the
run's seed (`facemorph_core.privacy.mechanism` says why).

References:
    | Deep Learning with Differential Privacy (Abadi et al., 2016)
    | Opacus: User-Friendly Differential Privacy Library in PyTorch (Yousefpour et al., 2021)
"""

from __future__ import annotations

import copy
import logging
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule

from facemorph_core.config.schema import PrivacyConfig, RunConfig
from facemorph_core.errors import ConfigError
from facemorph_core.models import Autoencoder, Reconstruction
from facemorph_core.models.convolution import as_library_layers
from facemorph_core.privacy import GaussianSteps, charge, epsilon, read_ledger, record
from facemorph_core.privacy.mechanism import NoisyOptimizer, poisson_batch, secret_generator
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
from facemorph_core.training.schedule import learning_rate, share_at
from facemorph_core.training.trainer import (
    Moment,
    Tally,
    add_proximal_gradient,
    check_finite_weights,
)

log = logging.getLogger(__name__)


def train_privately(
    model: Autoencoder,
    shard: Faces,
    config: RunConfig,
    *,
    epochs: int,
    progress: tuple[float, float] = (0.0, 1.0),
    seed: int,
    ledger: Path,
    proximal_mu: float = 0.0,
    on_step: OnStep | None = None,
    draws: np.random.Generator | None = None,
) -> TrainedRound:
    """Train ``model`` in place on the shard's "train" split under ``config.privacy``.

    Always float32. ``training.grad_clip`` is not used: each photo's gradient is clipped
    instead. ``seed`` decides how faces are changed and posterior draws. ``on_step`` sees
    losses that DP does not cover: for the site's own screen only. ``draws`` is for tests:
    what anybody could repeat protects nothing.

    Returns:
        The metrics "epsilon" (of the whole ledger), "delta", "steps" and "seconds".

    Raises:
        BudgetExhausted: before training; nothing was computed, nothing is charged.
        LedgerError: the ledger is damaged, or the charge could not be written.
        TrainingDiverged: the model is what it was; nothing is charged, as nothing is released.
    """
    privacy = private_config(config)
    rows = train_rows(shard, model.image_size)
    event = planned_release(config, privacy, examples=len(rows), epochs=epochs)
    budget = {"delta": privacy.delta, "limit": privacy.max_epsilon}
    charge(read_ledger(ledger), event, **budget)

    started = time.perf_counter()
    trained = copy.deepcopy(model)
    with cpu_threads(config.training.threads):
        trainer = _PrivateTrainer(
            trained,
            config,
            expected_batch=event.sample_rate * len(rows),
            seed=seed,
            draws=draws or secret_generator(),
            proximal_mu=proximal_mu,
        )
        for done in range(event.steps):
            at = Moment(share_at(progress, done, event.steps), 0, done)
            batch = poisson_batch(rows, event.sample_rate, trainer.draws)
            terms = trainer.step(shard, batch, at)
            if on_step is not None:
                on_step(done + 1, event.steps, terms)
        weights = trainer.finish()

    after = record(ledger, event, **budget)  # on disk before the weights are anyone's
    model.load_state_dict(weights)
    at_rest(model)
    return TrainedRound(
        len(rows),
        {
            "epsilon": epsilon(after, privacy.delta),
            "delta": privacy.delta,
            "steps": float(event.steps),
            "seconds": time.perf_counter() - started,
        },
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


class _PrivateTrainer:
    """The steps of one private round on a copy of the model."""

    def __init__(
        self,
        model: Autoencoder,
        config: RunConfig,
        *,
        expected_batch: float,
        seed: int,
        draws: np.random.Generator,
        proximal_mu: float,
    ) -> None:
        privacy = private_config(config)
        self.device = choose_compute(config.training).device
        self.model = model.to(self.device).train()
        self.config, self.privacy, self.seed = config, privacy, seed
        self.nets = load_feature_nets(config, self.device)
        self.draws = draws
        self.ema = Ema(model, config.training.ema_decay) if config.training.ema_decay else None
        self.proximal_mu = proximal_mu
        self.anchor = [p.detach().clone() for p in model.parameters()] if proximal_mu else []
        as_library_layers(model)  # Opacus knows exact types only
        self.wrapped = GradSampleModule(model, loss_reduction="sum")
        self.optimiser = NoisyOptimizer(
            adam(model.parameters(), config.training),
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.max_grad_norm,
            expected_batch_size=expected_batch,
            draws=draws,
        )

    def step(self, faces: Faces, batch: NDArray[np.int64], at: Moment) -> dict[str, float]:
        """One noised step. An empty batch is a step like any other: only noise."""
        tally = Tally()
        parts = _physical(batch, self.privacy.max_physical_batch)
        for number, part in enumerate(parts):
            if len(part):
                tally.add(self._per_photo_gradients(faces, part, at, number), len(part))
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

    def _per_photo_gradients(
        self, faces: Faces, rows: NDArray[np.int64], at: Moment, part: int
    ) -> dict[str, float]:
        """Leaves one gradient per photo in ``grad_sample`` of each parameter."""
        batch = load_batch(faces, rows, self.config, self.device)
        batch = augmented(batch, self.config.training, at.stream(self.seed, f"augment-{part}"))
        # Opacus unfolds a convolution's input by strides and silently takes the wrong numbers
        # from images whose channels lie last in memory.
        images = batch.images.contiguous()
        images.requires_grad_()  # else Opacus' backward hook on the first layer complains
        made: Reconstruction = self.wrapped(images, at.stream(self.seed, f"posterior-{part}"))
        terms = reconstruction_terms(
            made,
            batch._replace(images=images),
            self.config,
            nets=self.nets,
            crops=at.stream(self.seed, f"crop-{part}"),
        )
        weights = weights_at(self.config.loss, at.share, latent_dim=self.model.latent_dim)
        losses = total(terms, weights)
        torch.autograd.backward(losses.sum())
        values = {name: float(term.detach().mean()) for name, term in terms.items()}
        return values | {"loss": float(losses.detach().mean())}

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
