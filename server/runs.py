"""The directory of a run: everything needed to look at it, and to go on with it after a kill.

config.yaml                       the resolved config
state.json                        where the run stands; written last, whole or not at all
metrics.jsonl                     one object a round
spent.jsonl                       what sites told of their epsilon (with privacy), as it came
checkpoints/round-NNNN.safetensors  global encoder and decoder as they are released, float32
checkpoints/optimiser-NNNN.safetensors  what the server needs beside them to go on: moments of
                                  FedAdam or FedYogi, the weights behind a running mean
samples/round-NNNN.png            reconstructions and faces drawn from random codes
partition.json, partition.png     who owned which faces (simulations)
report.html, model.facemorph      what the run leaves
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from facemorph_core.config import RunConfig, digest, dump_run_config
from facemorph_core.errors import FaceMorphError, FederationError
from facemorph_core.rundir import append_metrics, keep_metrics, read_metrics, write_atomic

FORMAT_VERSION = 1
Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands."""

    id: str
    """Random, hexadecimal; names the run at its sites."""
    config_digest: str
    started: str
    rounds: int
    round: int = 0
    """Rounds whose checkpoint is on the disk."""
    status: Literal["running", "completed", "failed"] = "running"
    error: str = ""
    format_version: int = FORMAT_VERSION


class RunDirectory:
    """One run on disk, held by one process at a time."""

    def __init__(self, path: Path, config: RunConfig, state: RunState) -> None:
        self.path, self.config, self.state = path, config, state

    @classmethod
    @contextmanager
    def held(cls, path: Path, config: RunConfig) -> Iterator[RunDirectory]:
        """The run of ``config`` in ``path``, new or to go on with, locked.

        A failure inside is written to ``state.json`` before it goes on its way.

        Raises:
            FederationError: if the folder holds a run of another config, or another process
                holds the run.
        """
        path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path / ".lock", timeout=0):
                run = cls._opened(path, config)
                try:
                    yield run
                except BaseException as error:
                    run.fail(error)
                    raise
        except Timeout:
            raise FederationError(
                f"{path} is in use by another run",
                hint="wait for it, or give this run another name",
            ) from None

    @classmethod
    def _opened(cls, path: Path, config: RunConfig) -> RunDirectory:
        state = read_state(path)
        if state is None:
            state = RunState(
                id=secrets.token_hex(8),
                config_digest=digest(config),
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                rounds=config.federation.rounds,
            )
            write_atomic(path / "config.yaml", dump_run_config(config).encode())
        elif state.config_digest != digest(config):
            raise FederationError(
                f"{path} holds a run of another config",
                hint="give this run another name or folder",
            )
        elif state.status != "completed":
            state = replace(state, status="running", error="")
        run = cls(path, config, state)
        for folder in ("checkpoints", "samples"):
            (path / folder).mkdir(exist_ok=True)
        keep_metrics(path, up_to=state.round or -1)  # the figures before round 1 are taken again
        run._save_state()
        return run

    # --- what a round leaves -----------------------------------------------------------------

    def checkpoint(self, number: int, weights: Arrays, memory: Arrays) -> None:
        """Put the weights of a round on the disk; the round counts from then on."""
        if memory:
            write_atomic(self._file("optimiser", number), save(_plain(memory)))
        write_atomic(self._file("round", number), save(_plain(weights)))
        self.state = replace(self.state, round=number)
        self._save_state()
        self._drop_old_checkpoints()

    def record(self, entry: Mapping[str, Any]) -> None:
        """Add a round to ``metrics.jsonl``."""
        append_metrics(self.path, entry)

    def latest(self) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """Weights and memory of the last round on the disk; empty before the first."""
        number = self.state.round
        if number == 0:
            return {}, {}
        memory = self._file("optimiser", number)
        return (
            load_file(self._file("round", number)),
            load_file(memory) if memory.exists() else {},
        )

    def metrics(self) -> list[dict[str, Any]]:
        """All rounds so far, oldest first."""
        return read_metrics(self.path)

    def complete(self) -> None:
        """Mark the run as finished."""
        self.state = replace(self.state, status="completed")
        self._save_state()

    def fail(self, error: BaseException) -> None:
        """Keep why the run stopped, for whoever started it."""
        words = (
            str(error) if isinstance(error, FaceMorphError) else f"{type(error).__name__}: {error}"
        )
        hint = getattr(error, "hint", None)
        text = f"{words}\n hint: {hint}" if hint else words
        self.state = replace(self.state, status="failed", error=text)
        self._save_state()

    # --- parts -------------------------------------------------------------------------------

    def _file(self, kind: str, number: int) -> Path:
        return self.path / "checkpoints" / f"{kind}-{number:04d}.safetensors"

    def _save_state(self) -> None:
        _write_state(self.path, self.state)

    def _drop_old_checkpoints(self) -> None:
        keep = self.config.federation.keep_checkpoints
        for kind in ("round", "optimiser"):
            files = sorted((self.path / "checkpoints").glob(f"{kind}-*.safetensors"))
            for file in files[:-keep] if keep else []:
                file.unlink()


def read_state(path: Path) -> RunState | None:
    """The state in a run directory, or None if there is none yet.

    Raises:
        FederationError: if it is damaged or of another version.
    """
    file = path / "state.json"
    if not file.exists():
        return None
    try:
        state = RunState(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise FederationError(
            f"{file} is damaged", hint="move the run directory away and start anew"
        ) from None
    if state.format_version != FORMAT_VERSION:
        raise FederationError(
            f"{path} has format {state.format_version}, this version reads {FORMAT_VERSION}"
        )
    return state


def expect_another_try(path: Path) -> None:
    """Take back a failure that an earlier process wrote, before another one starts."""
    state = read_state(path)
    if state is not None and state.status == "failed":
        again = replace(state, status="running", error="")
        _write_state(path, again)


def choose_run(root: Path, config: RunConfig) -> Path:
    """The folder for ``config`` under ``root``.

    That of its own earlier run if ``resume`` allows, else its name, with a number where the name
    is taken by another run.

    Raises:
        FederationError: if ``resume`` is ``must`` and there is nothing to go on with.
    """
    number = 1
    while True:
        path = root / (config.name if number == 1 else f"{config.name}-{number}")
        state = read_state(path)
        if state is None and not _visible_files(path):
            break
        ours = state is not None and state.config_digest == digest(config)
        if ours and config.resume != "never":
            return path
        number += 1
    if config.resume == "must":
        raise FederationError(
            f"there is no run of this config under {root} to go on with",
            hint="start it with resume: auto",
        )
    return path


def _visible_files(path: Path) -> bool:
    return path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir())


def _write_state(path: Path, state: RunState) -> None:
    write_atomic(path / "state.json", json.dumps(asdict(state), indent=2).encode())


def _plain(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
