r"""Images a second of a training step, its parts, and how near it is to the machine's best.

The entrants take turns of some steps, so that whatever else the machine does meets all of them;
the first step of a turn, which finds the others' numbers in the caches, does not count. Figures
are medians. The roofline is the rate of a large matrix product on the same cores in the same
minutes, in bfloat16 where ours trains in it and else in float32: no training that multiplies
matrices can be faster. Peak memory is that of a process which does nothing but these steps.

References:
    | Roofline (Williams, Waterman & Patterson, 2009)
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.learners import Entrant, entrants, parameters
from benchmarks.textbook import TextbookVAE
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.training.batches import Faces, load_batch
from facemorph_core.learning.training.compute import Compute
from facemorph_core.learning.training.trainer import Moment
from facemorph_core.machine.describe import peak_memory
from facemorph_core.machine.processes import worker_pool

__all__ = ["Pace", "Roof", "paces", "roof"]

TIMED_STEPS = 2
"""That count in a turn."""
SIDE = 4096
"""Rows and columns of the roofline's matrices."""


@dataclass(frozen=True, slots=True)
class Roof:
    """GFLOP/s of a large matrix product."""

    float32: float
    bfloat16: float | None = None
    """None where nobody trains in it."""

    @property
    def best(self) -> float:
        """Of what ours trains in."""
        return self.float32 if self.bfloat16 is None else self.bfloat16


@dataclass(frozen=True, slots=True)
class Pace:
    """One entrant's training step."""

    name: str
    batch: int
    parameters: int
    seconds: float
    """Of a step, the median."""
    spread: tuple[float, float]
    """First and third quartile of the steps' seconds."""
    reading: float
    """Seconds of a step that go into reading the faces."""
    optimiser: float
    """Seconds of a step that go into moving the weights."""
    gigaflops: float
    """Of the forward and backward passes of one image."""
    peak_mib: float

    @property
    def images_per_second(self) -> float:
        return self.batch / self.seconds

    @property
    def achieved(self) -> float:
        """GFLOP/s of the whole step."""
        return self.gigaflops * self.images_per_second


def paces(faces: Faces, *, turns: int = 8, seed: int = 0) -> list[Pace]:
    """Every entrant's pace on these faces."""
    field = entrants(seed=seed)
    rows = np.random.default_rng(seed).permutation(faces.rows("train"))
    runs = [_Steps(entrant, faces, rows[: entrant.batch_size]) for entrant in field]
    for _ in range(turns):
        for run in runs:
            run.take_a_turn()
    return [run.pace(_peak_of(run.entrant.name, faces, seed)) for run in runs]


def roof(compute: Compute, *, turns: int = 4) -> Roof:
    """What this machine's matrix products reach at best.

    bfloat16 is left out where ``compute`` is without: emulated, one product takes minutes.
    """

    def reached(kind: torch.dtype) -> float:
        matrix = torch.randn(SIDE, SIDE).to(kind)
        seconds = min(_seconds(partial(torch.mm, matrix, matrix)) for _ in range(turns))
        return 2 * SIDE**3 / seconds / 1e9

    return Roof(reached(torch.float32), reached(torch.bfloat16) if compute.bfloat16 else None)


class _Steps:
    """Steps of one entrant on one batch, timed."""

    def __init__(self, entrant: Entrant, faces: Faces, rows: np.ndarray[Any, Any]) -> None:
        self.entrant, self.faces, self.rows = entrant, faces, rows
        self.trainer = entrant.begin()
        self.device = torch.device("cpu")
        self.steps: list[float] = []
        self.reading: list[float] = []
        self.optimiser: list[float] = []

    def take_a_turn(self) -> None:
        """Some steps, then their parts alone."""
        at = Moment(0.5, 0, len(self.steps))
        config = self.entrant.config
        for kept, work in (
            (self.steps, lambda: self.trainer.step(self.faces, self.rows, at)),
            (self.reading, lambda: load_batch(self.faces, self.rows, config, self.device)),
            (self.optimiser, self.trainer.optimiser.step),
        ):
            kept += [_seconds(work) for _ in range(TIMED_STEPS + 1)][1:]

    def pace(self, peak_mib: float) -> Pace:
        low, middle, high = statistics.quantiles(self.steps, n=4)
        return Pace(
            self.entrant.name,
            len(self.rows),
            parameters(self.trainer),
            seconds=middle,
            spread=(low, high),
            reading=statistics.median(self.reading),
            optimiser=statistics.median(self.optimiser),
            gigaflops=_gigaflops(self.trainer.model, self.entrant.config.model.image_size),
            peak_mib=peak_mib,
        )


def _gigaflops(model: Autoencoder | TextbookVAE, size: int, *, images: int = 2) -> float:
    """Of forward and backward of one image; multiplications of matrices and convolutions count."""
    generator = torch.Generator().manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        made = model(torch.zeros(images, 3, size, size), generator)
        made.images.mean().backward()
    model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / images / 1e9


def _peak_of(name: str, faces: Faces, seed: int) -> float:
    """MiB that a process of its own takes at most for some steps of the entrant."""
    with worker_pool(1) as pool:
        return pool.submit(_peak_alone, name, faces, seed, torch.get_num_threads()).result()


def _peak_alone(name: str, faces: Faces, seed: int, threads: int) -> float:
    torch.set_num_threads(threads)
    entrant = next(each for each in entrants(seed=seed) if each.name == name)
    trainer = entrant.begin()
    rows = faces.rows("train")[: entrant.batch_size]
    for step in range(3):
        trainer.step(faces, rows, Moment(0.5, 0, step))
    return peak_memory()


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def ratios(found: Sequence[Pace]) -> dict[str, float]:
    """Images a second of the last entrant over those of each other one, by its name."""
    *others, ours = found
    return {other.name: ours.images_per_second / other.images_per_second for other in others}
