"""Learning by the clock: as many steps as a budget of seconds holds, safe against a kill.

    | state.json                    where the learner stands and what its clock shows
    | learner-N-N.safetensors       what it goes on from: epoch and step
    | model.safetensors, config.yaml    what it gave away in the end

``state.json`` is written last and names the learner's file. The clock counts learning alone:
evaluation, checkpoints and what a kill threw away cost nothing of the budget. Without a GPU it
counts the time that the cores gave to this process: on an idle machine that is the time of day,
and on a busy one what goes on beside it costs a learner nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facemorph_core.config.load import digest, dump_run_config
from facemorph_core.config.schema import RunConfig
from facemorph_core.disk.output import reported_output
from facemorph_core.disk.records import write_atomic
from facemorph_core.disk.run_folder import read_values, write_values
from facemorph_core.errors import OutputError
from facemorph_core.learning.training.batches import Faces, epoch_batches, train_rows
from facemorph_core.learning.training.checkpoint import load_tensors, save_tensors
from facemorph_core.learning.training.compute import cpu_threads
from facemorph_core.learning.training.streams import stream
from facemorph_core.learning.training.trainer import Moment

__all__ = ["CHECKPOINT_SECONDS", "ClockRun", "ClockState", "Course", "Learner", "OnClock", "now"]

CHECKPOINT_SECONDS = 120.0
"""A kill costs at most this much work."""

OnClock = Callable[[float, float, Mapping[str, float]], None]
"""Called after each step with (seconds on the clock, the budget, terms of this batch)."""


class Learner(Protocol):
    """What learns step by step: `facemorph_core.learning.training.trainer.Trainer` is one."""

    def step(self, faces: Faces, rows: NDArray[np.int64], at: Moment) -> Mapping[str, float]:
        """One step on these rows; the means of its terms."""

    def check_weights(self, at: Moment) -> None:
        """Raise TrainingDiverged if a weight is no longer a number."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that `restore` needs."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `tensors`."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """``epoch`` epochs and ``step`` steps of the next one are done."""

    run: str
    """Digest of the config and the budget."""
    elapsed: float = 0.0
    """Seconds of learning so far, as `now` counts them."""
    epoch: int = 0
    step: int = 0
    images: int = 0
    """Faces read so far, each as often as it was read."""
    learner: str = ""
    """Name of the file to go on from; empty at the start and at the end."""
    is_done: bool = False


class ClockRun:
    """One learner on disk."""

    def __init__(self, path: Path, state: ClockState, *, budget: float) -> None:
        self.path, self.state, self.budget = path, state, budget

    @property
    def is_spent(self) -> bool:
        """Whether the budget is."""
        return self.state.elapsed >= self.budget

    def has_reached(self, until: float) -> bool:
        """Whether there is nothing left to do before the clock shows ``until``."""
        return self.state.is_done or (until <= self.state.elapsed and not self.is_spent)

    @classmethod
    def opened(cls, path: Path, config: RunConfig, *, budget: float) -> ClockRun:
        """The run of ``config`` and ``budget`` in ``path``, new or to go on with.

        Raises:
            OutputError: the folder holds another run, or cannot be written.
        """
        with reported_output(path):
            path.mkdir(parents=True, exist_ok=True)
        own = hashlib.sha256(f"{digest(config)} {budget!r}".encode()).hexdigest()
        state = _read_state(path) or ClockState(own)
        if state.run != own:
            raise OutputError(
                f"{path} holds a run of another config or budget", hint="choose another folder"
            )
        write_atomic(path / "config.yaml", dump_run_config(config).encode())
        return cls(path, state, budget=budget)

    def learner_tensors(self) -> dict[str, Tensor]:
        """What `Learner.restore` takes; empty for a run that has not started."""
        return load_tensors(self.path / self.state.learner) if self.state.learner else {}

    def released(self) -> dict[str, Tensor]:
        """What a finished run gave away."""
        return load_tensors(self.path / "model.safetensors")

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep the learner as it stands at `state`."""
        name = f"learner-{self.state.epoch}-{self.state.step}.safetensors"
        save_tensors(self.path / name, tensors)
        self._settle(replace(self.state, learner=name))

    def finish(self, released: Mapping[str, Tensor]) -> None:
        """Keep what is given away instead of the learner."""
        save_tensors(self.path / "model.safetensors", released)
        self._settle(replace(self.state, learner="", is_done=True))

    def _settle(self, state: ClockState) -> None:
        self.state = state
        write_values(self.path, asdict(state))
        for file in self.path.glob("learner-*.safetensors"):
            if file.name != state.learner:
                file.unlink(missing_ok=True)


L = TypeVar("L", bound=Learner)
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Course(Generic[L, M]):
    """All that learning by the clock has to know of what is learnt."""

    config: RunConfig
    begin: Callable[[], L]
    """A new learner."""
    give_away: Callable[[L, Faces, Path], Mapping[str, Tensor]]
    """What is kept of a learner whose budget is spent, beside what this writes to the folder."""
    learnt: Callable[[ClockRun], M]
    """What a finished run has made."""

    def complete(
        self,
        faces: Faces,
        *,
        budget: float,
        out: Path,
        on_step: OnClock | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> M:
        """Learn for ``budget`` seconds from wherever ``out`` stands; a finished run is loaded.

        Raises:
            OutputError: ``out`` holds a run of another config or budget.
            TrainingDiverged: the last checkpoint is intact.
        """
        run = ClockRun.opened(out, self.config, budget=budget)
        self.go_on(faces, run, budget, on_step=on_step, checkpoint_seconds=checkpoint_seconds)
        return self.learnt(run)

    def go_on(
        self,
        faces: Faces,
        run: ClockRun,
        until: float,
        *,
        on_step: OnClock | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        """Learn from wherever ``run`` stands until its clock shows ``until``.

        Raises:
            TrainingDiverged: the last checkpoint is intact.
        """
        if run.has_reached(until):
            return
        with cpu_threads(self.config.training.threads):
            learner = self.begin()
            _learn(
                learner,
                faces,
                self.config,
                run,
                until=until,
                on_step=on_step,
                checkpoint_seconds=checkpoint_seconds,
            )
            if run.is_spent:
                run.finish(self.give_away(learner, faces, run.path))


def now() -> float:
    """Seconds on the clock: differences between two looks at it count."""
    if torch.cuda.is_available():
        return perf_counter()
    return process_time() / torch.get_num_threads()


def _learn(
    learner: Learner,
    faces: Faces,
    config: RunConfig,
    run: ClockRun,
    *,
    until: float,
    on_step: OnClock | None,
    checkpoint_seconds: float,
) -> None:
    """Step on the training faces; ``learner`` is a new one, and takes up what ``run`` has kept.

    Schedules follow the clock: the share of the run that is done is that of the budget.
    """
    if tensors := run.learner_tensors():
        learner.restore(tensors)
    budget, saved = run.budget, now()
    batches = _batches(
        train_rows(faces, config.model.image_size),
        config.training.batch_size,
        config.seed,
        epoch=run.state.epoch,
        step=run.state.step,
    )
    while run.state.elapsed < until:
        epoch, number, batch = next(batches)
        at = Moment(run.state.elapsed / budget, epoch, number)
        began = now()
        terms = learner.step(faces, batch, at)
        run.state = replace(
            run.state,
            elapsed=run.state.elapsed + now() - began,
            epoch=epoch,
            step=number + 1,
            images=run.state.images + len(batch),
        )
        is_over = run.state.elapsed >= until
        if is_over or now() - saved >= checkpoint_seconds:
            learner.check_weights(at)
            run.save(learner.tensors())
            saved = now()
        if on_step is not None:
            on_step(run.state.elapsed, budget, terms)


def _batches(
    rows: NDArray[np.int64], size: int, seed: int, *, epoch: int, step: int
) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Epoch after epoch without end: (epoch, step, rows), from ``step`` of ``epoch`` on."""
    for number in itertools.count(epoch):
        batches = epoch_batches(rows, size, stream(seed, "order", number))
        first = step if number == epoch else 0
        for place in range(first, len(batches)):
            yield number, place, batches[place]


def _read_state(path: Path) -> ClockState | None:
    try:
        values = read_values(path)
        return None if values is None else ClockState(**values)
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(
            f"{path} holds something else than a run by the clock", hint="choose another folder"
        ) from error
