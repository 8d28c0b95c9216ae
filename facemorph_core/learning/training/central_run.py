"""The run directory of central training, safe against a kill at any moment.

    | config.yaml    the resolved config            metrics.jsonl  one line an epoch
    | state.json     where the run stands           samples/epoch-NNNN.png
    | checkpoints/epoch-NNNN.safetensors    what would be released; the last two and the best
    | checkpoints/trainer-N-N.safetensors   weights, optimiser, running mean, discriminator

``state.json`` is written last and names the trainer's file; what it does not name is removed.
A run with a discriminator keeps it in the trainer's file: share epochs, not that file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from facemorph_core.config.load import digest, dump_run_config
from facemorph_core.config.schema import RunConfig
from facemorph_core.disk.output import held_alone, output_error, written_whole
from facemorph_core.disk.records import append_metrics, keep_metrics, write_atomic
from facemorph_core.errors import FaceMorphError, OutputError
from facemorph_core.learning.training.checkpoint import load_tensors, save_tensors
from facemorph_core.learning.training.trainer import Tally

KEPT = 2  # newest epochs on disk, beside the best


@dataclass(frozen=True, slots=True)
class CentralState:
    """Where a run stands: ``epoch`` epochs and ``step`` steps of the next one are done."""

    config_digest: str
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
    status: Literal["running", "completed", "failed"] = "running"
    error: str = ""
    kind: Literal["central"] = "central"
    format_version: Literal[1] = 1


class CentralRun:
    """One run on disk, held by one process at a time."""

    def __init__(self, path: Path, state: CentralState) -> None:
        self.path, self.state = path, state

    @classmethod
    @contextmanager
    def held(cls, path: Path, config: RunConfig) -> Iterator[CentralRun]:
        """The run of ``config`` in ``path``, new or to go on with, locked.

        A failure inside is noted in ``state.json`` on its way out.

        Raises:
            OutputError: the folder holds something else, or another process holds it.
        """
        hint = "wait for it, or choose another folder with --out"
        with held_alone(path, other="training", hint=hint):
            try:
                for folder in ("checkpoints", "samples"):
                    (path / folder).mkdir(exist_ok=True)
            except OSError as error:
                raise output_error(error, path) from error
            run = cls._opened(path, config)
            with run._noting_failure():
                yield run

    @classmethod
    def _opened(cls, path: Path, config: RunConfig) -> CentralRun:
        state = read_state(path)
        if state is None:
            state = CentralState(digest(config))
            write_atomic(path / "config.yaml", dump_run_config(config).encode())
        elif state.config_digest != digest(config):
            raise OutputError(
                f"{path} holds a run of another config",
                hint="choose another folder with --out, or another name in the config",
            )
        run = cls(path, state)
        keep_metrics(path, up_to=state.epoch, key="epoch")
        run._save_state(replace(state, status="running", error=""))
        return run

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

    def complete(self) -> None:
        self._save_state(replace(self.state, status="completed"))

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except FaceMorphError as error:
            self._save_state(replace(self.state, status="failed", error=str(error)))
            raise

    def _save_trainer(self, tensors: Mapping[str, Tensor], state: CentralState) -> None:
        name = f"trainer-{state.epoch}-{state.step}.safetensors"
        save_tensors(self.path / "checkpoints" / name, tensors)
        self._save_state(replace(state, trainer=name))
        self._remove_unneeded()

    def _save_state(self, state: CentralState) -> None:
        self.state = state
        write_atomic(self.path / "state.json", json.dumps(asdict(state), indent=1).encode())

    def _remove_unneeded(self) -> None:
        newest = range(self.state.epoch - KEPT + 1, self.state.epoch + 1)
        kept = {self._epoch_file(epoch).name for epoch in (*newest, self.state.best_epoch)}
        kept.add(self.state.trainer)
        for file in (self.path / "checkpoints").glob("*.safetensors"):
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def _epoch_file(self, epoch: int) -> Path:
        return self.path / "checkpoints" / f"epoch-{epoch:04d}.safetensors"


def read_state(path: Path) -> CentralState | None:
    """The state in a run directory, or None if there is none.

    Raises:
        OutputError: the directory holds something else.
    """
    file = path / "state.json"
    if not file.exists():
        return None
    try:
        state = CentralState(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        state = None
    if state is None or state.kind != "central" or state.format_version != 1:
        raise OutputError(
            f"{path} is not a run of central training",
            hint="choose another folder with --out",
        )
    return state


def choose_run(root: Path, config: RunConfig) -> Path:
    """The folder for ``config`` under ``root``: NAME-central, numbered where that is taken.

    That of the config's own earlier run is taken again if ``resume`` allows.

    Raises:
        OutputError: ``resume`` is ``must`` and there is nothing to go on with.
    """
    number = 1
    while True:
        path = root / f"{config.name}-central{'' if number == 1 else f'-{number}'}"
        state = read_state(path)
        is_ours = state is not None and state.config_digest == digest(config)
        if is_ours and config.resume != "never":
            return path
        if state is None and not (path.exists() and any(path.iterdir())):
            break
        number += 1
    if config.resume == "must":
        raise OutputError(
            f"there is no central run of this config under {root} to go on with",
            hint="start it with resume: auto",
        )
    return path
