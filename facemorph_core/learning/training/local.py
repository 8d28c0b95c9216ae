"""A local round: some passes over a shard's training faces. No Flower, no Opacus.

The model is trained in place and is either better afterwards or, after an error, what it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from facemorph_core.config.schema import RunConfig
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.training.batches import Faces, epoch_batches, train_rows
from facemorph_core.learning.training.compute import choose_compute, cpu_threads
from facemorph_core.learning.training.discriminator import DiscriminatorState
from facemorph_core.learning.training.evaluate import evaluate_shard
from facemorph_core.learning.training.schedule import share_at
from facemorph_core.learning.training.streams import stream
from facemorph_core.learning.training.trainer import Moment, Tally, Trainer

__all__ = ["DiscriminatorState", "OnStep", "TrainedRound", "evaluate_shard", "train_epochs"]

OnStep = Callable[[int, int, Mapping[str, float]], None]
"""Called after each optimiser step with (steps done, steps in all, terms of this batch)."""


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
    config: RunConfig,
    *,
    epochs: int,
    progress: tuple[float, float] = (0.0, 1.0),
    seed: int,
    discriminator: DiscriminatorState | None = None,
    proximal_mu: float = 0.0,
    on_step: OnStep | None = None,
) -> TrainedRound:
    """Train ``model`` in place on the shard's "train" split.

    The optimiser starts anew; with ``training.ema_decay`` the model ends as the running mean of
    the call. ``progress`` is the slice of the whole run that this call is, for the schedules.
    A VAE-GAN without ``discriminator`` gets a fresh one, which is then forgotten.

    Raises:
        ShardError: there is no face to train on.
        ModelError: the shard's faces have another size than the model's.
        WeightsUnavailable: the perceptual term weighs something and VGG16 is not in the cache.
        TrainingDiverged: the model and the discriminator are back at their start.
    """
    rows = train_rows(shard, model.image_size)
    compute = choose_compute(config.training)
    started, tally = time.perf_counter(), Tally()
    with cpu_threads(config.training.threads), restored_on_failure(model, discriminator):
        trainer = Trainer(
            model,
            config,
            compute,
            seed=seed,
            discriminator=discriminator,
            proximal_mu=proximal_mu,
        )
        size = config.training.batch_size
        steps, done = epochs * -(-len(rows) // size), 0
        for epoch in range(epochs):
            batches = epoch_batches(rows, size, stream(seed, "order", epoch))
            for number, batch in enumerate(batches):
                at = Moment(share_at(progress, done, steps), epoch, number)
                terms = trainer.step(shard, batch, at)
                tally.add(terms, len(batch))
                done += 1
                if on_step is not None:
                    on_step(done, steps, terms)
            trainer.check_weights(at)
        if trainer.ema is not None:
            trainer.ema.copy_to(model)
    at_rest(model)
    seconds = time.perf_counter() - started
    return TrainedRound(
        len(rows), tally.means() | {"images": float(tally.images), "seconds": seconds}
    )


@contextmanager
def restored_on_failure(
    model: Autoencoder, discriminator: DiscriminatorState | None
) -> Iterator[None]:
    """Whatever goes wrong inside, both are what they were before."""
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    adversary = discriminator.snapshot() if discriminator is not None else {}
    try:
        yield
    except BaseException:
        model.load_state_dict(weights)
        if discriminator is not None:
            discriminator.restore(adversary)
        at_rest(model)
        raise


def at_rest(model: Autoencoder) -> None:
    """On the CPU, in plain memory order, without gradients: as others expect a model."""
    model.zero_grad(set_to_none=True)
    model.to("cpu").eval().to(memory_format=torch.contiguous_format)
