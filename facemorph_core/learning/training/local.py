"""A local round: what is asked of a site, and its steps. No Flower, no Opacus.

Without differential privacy a round is some passes over the shard (`train_epochs`), with it as
many steps on photos drawn at random (`private.train_privately`): the loop is one. The model is
trained in place and is either better afterwards or, after an error, what it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from facemorph_core.config.schema import RunConfig
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.training.batches import Faces, epoch_batches, train_rows
from facemorph_core.learning.training.compute import cpu_threads
from facemorph_core.learning.training.discriminator import DiscriminatorState
from facemorph_core.learning.training.evaluate import evaluate_shard
from facemorph_core.learning.training.gradients import BatchGradients
from facemorph_core.learning.training.schedule import share_at
from facemorph_core.learning.training.streams import stream
from facemorph_core.learning.training.trainer import Moment, Tally, Trainer

__all__ = [
    "DiscriminatorState",
    "LocalRound",
    "OnStep",
    "TrainedRound",
    "evaluate_shard",
    "train_epochs",
]

OnStep = Callable[[int, int, Mapping[str, float]], None]
"""Called after each optimiser step with (steps done, steps in all, terms of this batch)."""


@dataclass(frozen=True, slots=True)
class LocalRound:
    """What is asked of a site, whatever its faces are and whatever protects them."""

    config: RunConfig
    _: KW_ONLY
    epochs: int
    """Passes over the training faces; under differential privacy, on average."""
    progress: tuple[float, float] = (0.0, 1.0)
    """The slice of the whole run that this round is, for the schedules."""
    seed: int = 0
    """Of everything random, so that rounds of one seed repeat each other; under differential
    privacy nothing comes from it."""
    proximal_mu: float = 0.0
    """Weight of FedProx's term, which holds the weights near those that came; 0 without."""
    on_step: OnStep | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"a round has at least one epoch, not {self.epochs}")

    def steps(self, examples: int) -> int:
        """Optimiser steps with so many training faces."""
        return self.epochs * -(-examples // self.config.training.batch_size)


@dataclass(frozen=True, slots=True)
class TrainedRound:
    """What a round may tell of itself."""

    examples: int
    """Training faces of the shard: the weight of this site in a mean."""
    metrics: dict[str, float]
    """Mean per image of each term that weighs and of "loss", then "images" (seen, all
    epochs) and "seconds". KL is in nats per image."""


def train_epochs(
    model: Autoencoder,
    shard: Faces,
    work: LocalRound,
    *,
    discriminator: DiscriminatorState | None = None,
) -> TrainedRound:
    """Train ``model`` in place on the shard's "train" split.

    The optimiser starts anew; with ``training.ema_decay`` the model ends as the running mean of
    the call. A VAE-GAN without ``discriminator`` gets a fresh one, which is then forgotten.

    Raises:
        ShardError: there is no face to train on.
        ModelError: the shard's faces have another size than the model's.
        WeightsUnavailable: the perceptual term weighs something and VGG16 is not in the cache.
        TrainingDiverged: the model and the discriminator are back at their start.

    Examples:
        >>> from facemorph_core.learning.models import build_model
        >>> from facemorph_core.shards.shard import IndexRow, write_shard
        >>> faces, landmarks = np.zeros((2, 128, 128, 3), np.uint8), np.zeros((2, 68, 2))
        >>> index = [IndexRow(person=name, digest=name[0] * 64) for name in ("anna", "ben")]
        >>> shard = write_shard("trained", faces, landmarks, index)
        >>> config = RunConfig(name="mine", model={"kind": "vae", "width": 8})
        >>> model = build_model(config.model)
        >>> outcome = train_epochs(model, shard, LocalRound(config, epochs=2))
        >>> outcome.examples, outcome.metrics["images"], sorted(outcome.metrics)
        (2, 4.0, ['images', 'kl', 'l1', 'loss', 'seconds'])
    """
    config, size = work.config, work.config.training.batch_size
    rows = train_rows(shard, model.image_size)
    started = time.perf_counter()
    with in_training(model, config, discriminator):
        gradients = BatchGradients(model, config, seed=work.seed, discriminator=discriminator)
        trainer = Trainer(gradients, proximal_mu=work.proximal_mu)
        orders = (stream(work.seed, "order", epoch) for epoch in range(work.epochs))
        passes = (epoch_batches(rows, size, order) for order in orders)
        tally = take_steps(trainer, shard, work, passes, steps=work.steps(len(rows)))
    seconds = time.perf_counter() - started
    return TrainedRound(
        len(rows), tally.means() | {"images": float(tally.images), "seconds": seconds}
    )


def take_steps(
    trainer: Trainer,
    shard: Faces,
    work: LocalRound,
    passes: Iterable[Iterable[NDArray[np.int64]]],
    *,
    steps: int,
) -> Tally:
    """A step on each batch of each pass, ``steps`` in all; the model ends as what is released.

    Raises:
        TrainingDiverged: a weight, a term or a gradient is no longer a number.
    """
    tally, done = Tally(), 0
    for epoch, batches in enumerate(passes):
        for number, batch in enumerate(batches):
            at = Moment(share_at(work.progress, done, steps), epoch, number)
            terms = trainer.step(shard, batch, at)
            tally.add(terms, len(batch))
            done += 1
            if work.on_step is not None:
                work.on_step(done, steps, terms)
        trainer.check_weights(at)
    if trainer.ema is not None:
        trainer.ema.copy_to(trainer.model)
    return tally


@contextmanager
def in_training(
    model: Autoencoder, config: RunConfig, discriminator: DiscriminatorState | None = None
) -> Iterator[None]:
    """As many threads as the config says; whatever goes wrong inside, both are what they were."""
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    adversary = discriminator.snapshot() if discriminator is not None else {}
    with cpu_threads(config.training.threads):
        try:
            yield
        except BaseException:
            model.load_state_dict(weights)
            if discriminator is not None:
                discriminator.restore(adversary)
            raise
        finally:
            at_rest(model)
            if discriminator is not None:
                discriminator.to(torch.device("cpu"))


def at_rest(model: Autoencoder) -> None:
    """On the CPU, in plain memory order, without gradients: as others expect a model."""
    model.zero_grad(set_to_none=True)
    model.to("cpu").eval().to(memory_format=torch.contiguous_format)
