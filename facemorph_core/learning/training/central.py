"""Training in one place, the baseline of everything federated: the same steps, one shard.

It leaves a run directory (config.yaml, metrics.jsonl, samples/, checkpoints/) and may be killed
at any moment: `CentralRun` says what is on the disk. Streams depend on the place in the run, so
a resumed run ends with the weights of one that was never stopped.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ConfigError
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.training.batches import Faces, epoch_batches, train_rows
from facemorph_core.learning.training.central_run import CentralRun
from facemorph_core.learning.training.compute import cpu_threads
from facemorph_core.learning.training.evaluate import evaluate_shard
from facemorph_core.learning.training.gradients import BatchGradients
from facemorph_core.learning.training.grid import draw_grid
from facemorph_core.learning.training.local import OnStep, at_rest
from facemorph_core.learning.training.schedule import share_at
from facemorph_core.learning.training.start import starting_model
from facemorph_core.learning.training.streams import stream
from facemorph_core.learning.training.trainer import Moment, Tally, Trainer

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 300.0
"""An epoch of CelebA takes many minutes; a kill costs at most this much work."""

OnEpoch = Callable[[Mapping[str, Any]], None]
"""Called after each epoch with its line of metrics.jsonl."""


def train_centrally(
    config: RunConfig,
    shard: Faces,
    run: CentralRun,
    *,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Autoencoder:
    """Train to ``training.epochs`` from wherever ``run`` stands; returns the released model.

    Raises:
        ConfigError: the config asks for privacy, which only sites offer.
        TrainingDiverged: the last checkpoint is intact.
    """
    if config.privacy is not None:
        raise ConfigError(
            config.name,
            ["privacy: central training is the baseline without differential privacy"],
            hint="train it without: --set privacy=null",
        )
    model = starting_model(config)
    with cpu_threads(config.training.threads):
        trainer = Trainer(BatchGradients(model, config, seed=config.seed))
        if tensors := run.trainer_tensors():
            trainer.restore(tensors)
        rows = train_rows(shard, config.model.image_size)
        for epoch in range(run.state.epoch, config.training.epochs):
            order = stream(config.seed, "order", epoch)
            batches = epoch_batches(rows, config.training.batch_size, order)
            tally, seconds = _steps(
                trainer, shard, run, batches, epoch=epoch, every=checkpoint_seconds, tell=on_step
            )
            line = _finish(trainer, shard, run, tally, seconds=seconds, epoch=epoch + 1)
            if on_epoch is not None:
                on_epoch(line)
    run.complete()
    return released(trainer)


def _steps(
    trainer: Trainer,
    shard: Faces,
    run: CentralRun,
    batches: list[NDArray[np.int64]],
    *,
    epoch: int,
    every: float,
    tell: OnStep | None,
) -> tuple[Tally, float]:
    """The steps of an epoch that are not done yet; the tally and seconds of all of it."""
    tally = Tally(run.state.images, dict(run.state.sums))
    began = time.perf_counter() - run.state.seconds
    saved = time.perf_counter()
    total = len(batches) * trainer.config.training.epochs
    for number in range(run.state.step, len(batches)):
        done = epoch * len(batches) + number
        at = Moment(share_at((0.0, 1.0), done, total), epoch, number)
        terms = trainer.step(shard, batches[number], at)
        tally.add(terms, len(batches[number]))
        if tell is not None:
            tell(done + 1, total, terms)
        now, is_last = time.perf_counter(), number + 1 == len(batches)
        if is_last or now - saved >= every:
            trainer.check_weights(at)
        if not is_last and now - saved >= every:
            run.save_within_epoch(trainer.tensors(), number + 1, tally, now - began)
            saved = time.perf_counter()
    return tally, time.perf_counter() - began


def released(trainer: Trainer) -> Autoencoder:
    """What the run gives away: the running mean of the weights if there is one."""
    model = copy.deepcopy(trainer.model)
    if trainer.ema is not None:
        trainer.ema.copy_to(model)
    at_rest(model)
    return model


def _finish(
    trainer: Trainer,
    shard: Faces,
    run: CentralRun,
    tally: Tally,
    *,
    seconds: float,
    epoch: int,
) -> dict[str, Any]:
    """Score, draw, record and checkpoint the end of epoch number ``epoch`` (from 1)."""
    config, model = trainer.config, released(trainer)
    line: dict[str, Any] = {
        "epoch": epoch,
        "images": tally.images,
        "seconds": round(seconds, 3),
        "training": tally.means(),
    }
    wanted = config.evaluation
    if epoch % wanted.every == 0 or epoch == config.training.epochs:
        line |= _scores(model, shard, config)
        grid = draw_grid(model, shard, config)
        if grid is not None:
            run.save_grid(grid, epoch)
    run.append(line)
    run.save_epoch(model.state_dict(), trainer.tensors(), line)
    return line


def _scores(model: Autoencoder, shard: Faces, config: RunConfig) -> dict[str, float]:
    """Mean scores on faces that are not trained on; empty if the split is."""
    sums = evaluate_shard(
        model, shard, config.evaluation.split, config, max_faces=config.evaluation.max_faces
    )
    faces = sums.pop("examples")
    if not faces:
        log.warning("the shard's split '%s' is empty: nothing is scored", config.evaluation.split)
        return {}
    return {name: value / faces for name, value in sums.items()} | {"faces": faces}
