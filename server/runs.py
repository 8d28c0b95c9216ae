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

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from facemorph_core.bundle.find import RUN_BUNDLE
from facemorph_core.config import RunConfig
from facemorph_core.config.runs import HeldRun
from facemorph_core.disk.output import reported_output
from facemorph_core.disk.records import append_metrics, read_metrics
from facemorph_core.errors import FederationError
from server.aside import free_folder, later_files, move
from server.best import Judged, best_round
from server.checkpoints import Arrays, Checkpoints, OwnArrays
from server.runstate import RUNS, RunState, read_state, write_state

__all__ = ["MADE_AT_THE_END", "RunDirectory"]

log = logging.getLogger("flwr")
MADE_AT_THE_END = (RUN_BUNDLE, "report.html")


class RunDirectory(HeldRun[RunState]):
    """One run on disk, held by one process at a time."""

    runs = RUNS

    def __init__(self, path: Path, config: RunConfig, state: RunState) -> None:
        super().__init__(path, config, state)
        self.checkpoints = Checkpoints(path)
        self._entries: list[dict[str, Any]] = []

    def _require_readable(self) -> None:
        """See that the run can be gone on from; a complete one that cannot stays complete."""
        if self.state.is_over(self.config):
            return
        try:
            self.latest()
        except FederationError as error:
            if there := read_state(self.path):
                write_state(self.path, there.failed(error))
            raise

    def _begin(self) -> None:
        with reported_output(self.path):
            self._clear_the_way()
        super()._begin()
        self._entries = self.metrics()

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
