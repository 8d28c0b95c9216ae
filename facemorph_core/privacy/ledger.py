"""What a site has released, in a file that only grows, and the gate before the next release.

One JSON object a line, synced to disk before anything is released. A release waits for its
line to be complete on disk; so a line cut short at the very end (no newline) was never followed
by a release: it is not counted and the next record replaces it. Any other damage stops the
site, because what is left to spend is then not known.

The ledger belongs to the photos, not to a run: it outlives both.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from facemorph_core.errors import BudgetExhausted, LedgerError
from facemorph_core.privacy.accountant import epsilon
from facemorph_core.privacy.events import GaussianSteps

log = logging.getLogger(__name__)
KIND = "gaussian_steps"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything that was released, in order."""

    events: tuple[GaussianSteps, ...] = ()

    def __iter__(self) -> Iterator[GaussianSteps]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def plus(self, event: GaussianSteps) -> Ledger:
        return Ledger((*self.events, event))


def charge(ledger: Ledger, event: GaussianSteps, *, delta: float, limit: float) -> Ledger:
    """The ledger after ``event``, or BudgetExhausted *before* anything is released."""
    charged = ledger.plus(event)
    after = epsilon(charged, delta)
    if not after <= limit:
        raise BudgetExhausted(spent=epsilon(ledger, delta), after=after, limit=limit, delta=delta)
    return charged


def read_ledger(path: Path) -> Ledger:
    """What was released according to ``path``; a file that does not exist means nothing.

    Raises:
        LedgerError: a line that is not the last one cut short cannot be understood.
    """
    if not path.exists():
        return Ledger()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be read: {error.strerror}") from error
    *lines, rest = text.split(b"\n")
    if rest:
        log.warning("%s ends in half a line, written by a process that died; not counted", path)
    return Ledger(tuple(_event(path, i, line) for i, line in enumerate(lines, 1)))


def record(path: Path, event: GaussianSteps, *, delta: float, limit: float) -> Ledger:
    """Charge ``event`` to the file and return the ledger once it is safely on disk.

    Two processes of one site cannot both spend the rest: the check and the write are one.

    Raises:
        BudgetExhausted: nothing was written.
        LedgerError: the file is damaged or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            charged = charge(read_ledger(path), event, delta=delta, limit=limit)
            _append(path, _line(event))
    except OSError as error:
        raise LedgerError(
            f"the ledger {path} cannot be written ({error.strerror or error}); nothing is released",
            hint="free some space or repair the folder's permissions, then train again",
        ) from error
    return charged


def _append(path: Path, line: bytes) -> None:
    is_new = not path.exists()
    with path.open("ab+") as file:
        file.seek(0)
        complete = file.read().rfind(b"\n") + 1
        file.truncate(complete)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file as durable as its contents."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(event: GaussianSteps) -> bytes:
    facts = {
        "kind": KIND,
        "noise_multiplier": event.noise_multiplier,
        "sample_rate": event.sample_rate,
        "steps": event.steps,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(facts).encode() + b"\n"


def _event(path: Path, number: int, line: bytes) -> GaussianSteps:
    try:
        facts = json.loads(line)
        if facts["kind"] != KIND:
            raise ValueError(f"unknown kind {facts['kind']!r}")
        return GaussianSteps(
            float(facts["noise_multiplier"]), float(facts["sample_rate"]), int(facts["steps"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{path}, line {number} is not a record of a release",
            hint="restore the file from a backup; without it, treat the budget as spent",
        ) from error
