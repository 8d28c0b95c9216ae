"""Where a run of a federation stands, and what its starter is told when it fails."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from facemorph_core.config import RunConfig, digest
from facemorph_core.config.runs import Runs
from facemorph_core.config.standing import Standing
from facemorph_core.disk.records import write_atomic
from facemorph_core.disk.run_folder import reason
from facemorph_core.errors import FederationError, OutputError

__all__ = [
    "REASON_FILE",
    "RUNS",
    "RunState",
    "as_error",
    "choose_run",
    "read_state",
    "reason",
    "tell_starter",
    "write_state",
]

REASON_FILE = "FACEMORPH_REASON_FILE"
"""Variable with the file in which the starter of the app looks for why it failed."""


@dataclass(frozen=True, slots=True)
class RunState(Standing):
    """Where a run stands."""

    id: str
    """Random, hexadecimal; names the run at its sites."""
    started: str
    rounds: int
    round: int = 0
    """Rounds whose checkpoint is on the disk."""
    best_round: int = 0
    """The best of them, whose checkpoint stays; 0 while no figure judges any."""

    @classmethod
    def new(cls, config: RunConfig) -> RunState:
        """Before the first round of a run that has no folder yet."""
        return cls(
            id=secrets.token_hex(8),
            config_digest=digest(config),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            rounds=config.federation.rounds,
        )

    @property
    def done(self) -> int:
        return self.round

    def is_over(self, config: RunConfig) -> bool:
        """As many rounds as it is complete with are wanted, no more."""
        return self.status == "completed" and self.rounds == config.federation.rounds

    def rank(self, config: RunConfig) -> tuple[int, ...] | None:
        """A run of as many rounds comes first, then one that was interrupted.

        One that is complete is made longer only if ``resume`` is ``must``, the longest first.
        """
        rounds = config.federation.rounds
        if self.rounds == rounds:
            return (0,)
        if self.round > rounds:
            return None
        if self.status != "completed":
            return (1,)
        return (2, -self.round) if config.resume == "must" else None

    def going_on(self, path: Path, config: RunConfig) -> RunState:
        rounds = config.federation.rounds
        if rounds < self.round:
            raise FederationError(
                f"{path} has done {self.round} rounds already, federation.rounds is {rounds}",
                hint=f"raise federation.rounds, or go back: python -m server rollback {path}",
            )
        return replace(Standing.going_on(self, path, config), rounds=rounds)


RUNS = Runs(
    TypeAdapter(RunState),
    RunState.new,
    kind="",
    of="a federation",
    unit="round",
    error=FederationError,
    elsewhere="give this run another folder",
    log=logging.getLogger("flwr"),
)
read_state, write_state, choose_run = RUNS.read, RUNS.write, RUNS.choose


def as_error(words: str, *, otherwise: str) -> FederationError:
    """The inverse of `reason`; ``otherwise`` is the hint where it gave none."""
    message, _, hint = words.partition("\n hint: ")
    return FederationError(message, hint=hint or otherwise)


def tell_starter(error: BaseException) -> None:
    """Leave the reason where the process that started this one looks for it, if it does.

    It cannot look into the run directory for what happens before that is open.
    """
    if where := os.environ.get(REASON_FILE):
        with contextlib.suppress(OutputError):
            write_atomic(Path(where), reason(error).encode())
