"""The run directory of central training, safe against a kill at any moment.

    | config.yaml    the resolved config            metrics.jsonl  one line an epoch
    | state.json     where the run stands           samples/epoch-NNNN.png
    | checkpoints/epoch-NNNN.safetensors    what would be released; the last two and the best
    | checkpoints/trainer-N-N.safetensors   weights, optimiser, running mean, discriminator

``state.json`` is written last and names the trainer's file; what it does not name is removed.
A run with a discriminator keeps it in the trainer's file: share epochs, not that file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor

from facemorph_core.config.load import digest
from facemorph_core.config.runs import HeldRun, Runs
from facemorph_core.config.schema import RunConfig
from facemorph_core.config.standing import Standing
from facemorph_core.disk.output import written_whole
from facemorph_core.disk.records import append_metrics
from facemorph_core.errors import OutputError
from facemorph_core.learning.training.checkpoint import load_tensors, save_tensors
from facemorph_core.learning.training.trainer import Tally

KEPT = 2  # newest epochs on disk, beside the best


@dataclass(frozen=True, slots=True)
class CentralState(Standing):
    """Where a run stands: ``epoch`` epochs and ``step`` steps of the next one are done.

    Epochs set the schedule of all steps: a run of more of them is another run.
    """

    epoch: int = 0
    step: int = 0
    trainer: str = ""
    """Name of the file to go on from; empty at the start."""
    images: int = 0
    """Images of the unfinished epoch, and the sums of their terms and seconds."""
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best_epoch: int = 0
    best_psnr: float | None = None
    kind: Literal["central"] = "central"

    @classmethod
    def new(cls, config: RunConfig) -> CentralState:
        """Before the first step."""
        return cls(config_digest=digest(config))

    @property
    def done(self) -> int:
        return self.epoch

    @property
    def has_begun(self) -> bool:
        return bool(self.trainer)


RUNS = Runs(
    TypeAdapter(CentralState),
    CentralState.new,
    kind="central",
    of="central training",
    unit="epoch",
    error=OutputError,
    elsewhere="choose another folder with --out",
    log=logging.getLogger(__name__),
)
read_state, choose_run = RUNS.read, RUNS.choose


class CentralRun(HeldRun[CentralState]):
    """One run on disk, held by one process at a time."""

    runs = RUNS

    def trainer_tensors(self) -> dict[str, Tensor]:
        """What `Trainer.restore` takes; empty for a run that has not started."""
        name = self.state.trainer
        return load_tensors(self.path / "checkpoints" / name) if name else {}

    def save_within_epoch(
        self, trainer: Mapping[str, Tensor], step: int, tally: Tally, seconds: float
    ) -> None:
        """Keep an unfinished epoch after ``step`` steps."""
        state = replace(
            self.state, step=step, images=tally.images, sums=dict(tally.sums), seconds=seconds
        )
        self._save_trainer(trainer, state)

    def save_epoch(
        self,
        released: Mapping[str, Tensor],
        trainer: Mapping[str, Tensor],
        line: Mapping[str, Any],
    ) -> None:
        """Keep a finished epoch; it counts from then on."""
        epoch, psnr = int(line["epoch"]), line.get("psnr")
        save_tensors(self._epoch_file(epoch), released)
        state = replace(self.state, epoch=epoch, step=0, images=0, sums={}, seconds=0.0)
        if psnr is not None and (state.best_psnr is None or psnr > state.best_psnr):
            state = replace(state, best_epoch=epoch, best_psnr=float(psnr))
        self._save_trainer(trainer, state)

    def append(self, line: Mapping[str, Any]) -> None:
        """Add an epoch to metrics.jsonl, before its checkpoint.

        A line without a checkpoint is dropped when the run is resumed, so none is there twice.
        """
        append_metrics(self.path, line)

    def save_grid(self, grid: Image.Image, epoch: int) -> None:
        with written_whole(
            self.path / "samples" / f"epoch-{epoch:04d}.png", force=True, private=True
        ) as file:
            grid.save(file)

    def _save_trainer(self, tensors: Mapping[str, Tensor], state: CentralState) -> None:
        name = f"trainer-{state.epoch}-{state.step}.safetensors"
        save_tensors(self.path / "checkpoints" / name, tensors)
        self._save_state(replace(state, trainer=name))
        self._remove_unneeded()

    def _remove_unneeded(self) -> None:
        newest = range(self.state.epoch - KEPT + 1, self.state.epoch + 1)
        kept = {self._epoch_file(epoch).name for epoch in (*newest, self.state.best_epoch)}
        kept.add(self.state.trainer)
        for file in (self.path / "checkpoints").glob("*.safetensors"):
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def _epoch_file(self, epoch: int) -> Path:
        return self.path / "checkpoints" / f"epoch-{epoch:04d}.safetensors"
