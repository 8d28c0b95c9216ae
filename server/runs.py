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
model-round-NNNN.facemorph, report-round-NNNN.html  what it left before it was made longer
rolled-back-N/, metrics.rolled-back.jsonl  what it went back behind (`python -m server rollback`,
                                  and files of rounds that its state does not count)

The newest rounds keep their checkpoints, and the best one does.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facemorph_core.bundle.find import RUN_BUNDLE
from facemorph_core.config import RunConfig, digest, dump_run_config, load_run_config
from facemorph_core.config.changes import Change, in_words
from facemorph_core.disk.output import held_alone, reported_output
from facemorph_core.disk.records import append_metrics, keep_metrics, read_metrics, write_atomic
from facemorph_core.errors import FederationError, OutputError
from server.aside import free_folder, later_files, move
from server.best import Judged, best_round
from server.checkpoints import Arrays, Checkpoints, OwnArrays
from server.runstate import RunState, changes_of, read_state, write_state

__all__ = ["MADE_AT_THE_END", "RunDirectory", "hold", "tell_ignored"]

log = logging.getLogger("flwr")
MADE_AT_THE_END = (RUN_BUNDLE, "report.html")


def hold(path: Path, *, hint: str) -> contextlib.AbstractContextManager[None]:
    """The run directory ``path``, made if needed, for this process alone.

    Raises:
        OutputError: another process holds it (``hint`` says what to do), or it cannot be written.
    """
    return held_alone(path, other="run", hint=hint)


class RunDirectory:
    """One run on disk, held by one process at a time."""

    def __init__(self, path: Path, config: RunConfig, state: RunState) -> None:
        self.path, self.config, self.state = path, config, state
        self.checkpoints = Checkpoints(path)
        self._entries: list[dict[str, Any]] = []

    @classmethod
    @contextmanager
    def held(cls, path: Path, config: RunConfig) -> Iterator[RunDirectory]:
        """The run of ``config`` in ``path``, new or to go on with, locked.

        A failure inside is written to ``state.json`` before it goes on its way.

        Raises:
            FederationError: if the folder holds a run of another config, or one that cannot go on.
            OutputError: if another process holds the run, or the folder cannot be written.
        """
        with hold(path, hint="wait for it, or give this run another name"):
            run = cls._opened(path, config)
            try:
                run._begin()
                yield run
            except BaseException as error:
                with contextlib.suppress(OutputError):  # the error matters more than its record
                    run._save_state(run.state.failed(error))
                raise

    @classmethod
    def _opened(cls, path: Path, config: RunConfig) -> RunDirectory:
        state = read_state(path)
        if state is None:
            refuse_orphans(path)
            return cls._new(path, config)
        if config.resume == "never" and state.round > 0:
            raise FederationError(
                f"{path} holds a run that stands at round {state.round}, and resume is never",
                hint="name a folder that is not there yet, or start it with resume: auto",
            )
        changed = changes_of(path, state, config)
        other = [change for change in changed if not change.allowed]
        if other and state.round == 0:  # nothing was trained that the new config could contradict
            log.warning("%s has no round yet and begins anew: %s", path, in_words(other))
            return cls._new(path, config)
        if other:
            raise FederationError(
                f"{path} holds a run of another config: {in_words(other)}",
                hint="give this run another folder, or set these back",
            )
        rounds = config.federation.rounds
        if rounds < state.round:
            raise too_few_rounds(path, state, rounds)
        if state.status == "completed" and rounds == state.rounds:
            tell_ignored(path, changed)
            own = load_run_config(path / "config.yaml") if changed else config
            return cls(path, own, state)
        require_readable(path, state)
        for change in changed:
            log.warning(
                "%s goes on with %s %s -> %s", path, change.setting, change.there, change.here
            )
        going_on = replace(
            state, config_digest=digest(config), rounds=rounds, status="running", error=""
        )
        return cls(path, config, going_on)

    @classmethod
    def _new(cls, path: Path, config: RunConfig) -> RunDirectory:
        if config.resume == "must":
            raise nothing_to_go_on_with(path)
        state = RunState(
            id=secrets.token_hex(8),
            config_digest=digest(config),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            rounds=config.federation.rounds,
        )
        return cls(path, config, state)

    def _begin(self) -> None:
        """Make the folder say what is run from here."""
        if self.state.status == "completed":
            return
        with reported_output(self.path):
            for folder in ("checkpoints", "samples"):
                (self.path / folder).mkdir(exist_ok=True)
            self._clear_the_way()
        write_atomic(self.path / "config.yaml", dump_run_config(self.config).encode())
        # the figures before round 1 are taken again
        keep_metrics(self.path, up_to=self.state.round or -1)
        self._entries = self.metrics()
        self._save_state(self.state)

    def _clear_the_way(self) -> None:
        """Let nothing speak for the run that is not of the round where it stands.

        A kill between a checkpoint and the state leaves a round that does not count. What a
        complete run has left is of its last round then; its name says so from here on.
        """
        aside = free_folder(self.path)
        for path in later_files(self.path, after=self.state.round):
            log.warning("%s is of a round that does not count and moves to %s", path, aside)
            move(path, aside / path.relative_to(self.path))
        there = read_state(self.path)
        if there is None or there.status != "completed":
            return
        for path in (self.path / name for name in MADE_AT_THE_END):
            if path.exists():
                move(path, path.with_stem(f"{path.stem}-round-{there.round:04d}"))

    @property
    def untrained(self) -> bool:
        """Whether none of the rounds so far brought anything; False where no figures are left."""
        rounds = [entry for entry in self._entries if entry["round"] > 0]
        return bool(rounds) and not any(entry.get("merged", True) for entry in rounds)

    @property
    def best(self) -> Judged | None:
        """The best of the rounds whose checkpoints are on the disk."""
        return best_round(self._entries, among=self.checkpoints.rounds())

    # --- what a round leaves -----------------------------------------------------------------

    def checkpoint(self, number: int, weights: Arrays, memory: Arrays) -> None:
        """Put the weights of a round on the disk; the round counts from then on."""
        with reported_output(self.checkpoints.folder):
            self.checkpoints.save(number, weights, memory)
            best = self.best
            best_number = best.round if best else 0
            self._save_state(replace(self.state, round=number, best_round=best_number))
            newest = self.config.federation.keep_checkpoints
            if newest:
                self.checkpoints.keep({*self.checkpoints.rounds()[-newest:], best_number})

    def record(self, entry: Mapping[str, Any]) -> None:
        """Add a round to ``metrics.jsonl``."""
        append_metrics(self.path, entry)
        self._entries.append(dict(entry))

    def latest(self) -> tuple[OwnArrays, OwnArrays]:
        """Weights and memory of the last round on the disk; empty before the first.

        Raises:
            FederationError: they are not there or damaged, with the way back.
        """
        return self.checkpoints.load(self.state.round) if self.state.round else ({}, {})

    def metrics(self) -> list[dict[str, Any]]:
        """All rounds so far, oldest first."""
        return read_metrics(self.path)

    def complete(self) -> None:
        """Mark the run as finished."""
        self._save_state(replace(self.state, status="completed"))

    def _save_state(self, state: RunState) -> None:
        write_state(self.path, state)
        self.state = state


def tell_ignored(path: Path, changed: tuple[Change, ...]) -> None:
    """Say which settings a complete run leaves as they were."""
    if changed:
        log.warning("%s is complete and stays as it is: %s", path, in_words(changed))


def refuse_orphans(path: Path) -> None:
    """Checkpoints whose state is gone are not begun over."""
    if Checkpoints(path).rounds():
        raise FederationError(
            f"{path} holds checkpoints and no state.json",
            hint="bring it back, or give this run another folder",
        )


def require_readable(path: Path, state: RunState) -> None:
    """See that a run can be gone on from; a complete one that cannot stays complete."""
    if state.round == 0:
        return
    try:
        Checkpoints(path).load(state.round)
    except FederationError as error:
        if state.status != "completed":
            write_state(path, state.failed(error))
        raise


def too_few_rounds(path: Path, state: RunState, rounds: int) -> FederationError:
    """A run has done more rounds than it is to have."""
    return FederationError(
        f"{path} has done {state.round} rounds already, federation.rounds is {rounds}",
        hint=f"raise federation.rounds, or go back: python -m server rollback {path}",
    )


def nothing_to_go_on_with(where: Path) -> FederationError:
    """A run was to be gone on with, and there is none."""
    return FederationError(
        f"there is no run of this config under {where} to go on with",
        hint="start it with resume: auto",
    )
