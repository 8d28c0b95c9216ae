"""Going back to an earlier round of a run. Nothing is deleted: what came later moves aside.

    | metrics.rolled-back.jsonl   the lines of later rounds, one object a line, added to every time
    | rolled-back-N/              their checkpoints and pictures, and the bundle and page of the run

The sites trained those rounds all the same, and what they spent on them is spent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from facemorph_core.disk.output import reported_output
from facemorph_core.disk.records import (
    METRICS,
    ROLLED_BACK,
    append_entry,
    number_of,
    read_metrics,
    read_rolled_back,
    write_entries,
)
from facemorph_core.disk.run_folder import held_alone
from facemorph_core.errors import FederationError
from server.aside import free_folder, later_files, move
from server.best import Judged, best_round, judged
from server.checkpoints import Checkpoints
from server.runs import MADE_AT_THE_END
from server.runstate import RunState, read_state, write_state

__all__ = ["Kept", "kept_rounds", "rollback"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A round that a run can go back to."""

    round: int
    judged: Judged | None
    whole: bool
    best: bool
    newest: bool

    def __str__(self) -> str:
        words = [str(self.judged) if self.judged else "no score"]
        words += ["cannot be read"] if not self.whole else []
        words += ["the best"] if self.best else []
        words += ["the run stands here"] if self.newest else []
        return f"round {self.round}: {', '.join(words)}"


def kept_rounds(run: Path) -> list[Kept]:
    """The rounds of a run whose checkpoints are on the disk, oldest first.

    Raises:
        FederationError: ``run`` is no run, or its state is damaged.
    """
    state, checkpoints = _state(run), Checkpoints(run)
    there = [number for number in checkpoints.rounds() if number <= state.round]
    entries = {number_of(entry): entry for entry in read_metrics(run)}
    best = best_round(entries.values(), among=there)
    return [
        Kept(
            number,
            judged(entries.get(number, {})),
            whole=checkpoints.whole(number),
            best=best is not None and number == best.round,
            newest=number == state.round,
        )
        for number in there
    ]


def rollback(run: Path, *, to: int) -> Path:
    """Let the run stand at the round ``to``; the folder to which later rounds were moved.

    The next start goes on from there, and makes bundle and page anew.

    Raises:
        FederationError: ``run`` is no run, or the round's checkpoint is not there or damaged.
        OutputError: a process holds the run, or the disk cannot be written.
    """
    _state(run)  # before a folder is made of what is none
    with held_alone(run, other="run", hint="end the run first"), reported_output(run):
        state = _state(run)
        _require_whole(run, to)
        entries = read_metrics(run)
        aside = free_folder(run)
        known = [json.dumps(entry) for entry in read_rolled_back(run)]
        for entry in entries:
            # it is there already, if a kill came between
            if number_of(entry) > to and json.dumps(entry) not in known:
                append_entry(run / ROLLED_BACK, entry)
        made_at_the_end = [run / name for name in MADE_AT_THE_END if (run / name).exists()]
        for path in [*later_files(run, after=to), *made_at_the_end]:
            move(path, aside / path.relative_to(run))
        # The state counts from here on; were it first, the next start would forget the lines.
        best = best_round(entries, among=Checkpoints(run).rounds())
        write_state(
            run,
            replace(
                state, round=to, status="running", error="", best_round=best.round if best else 0
            ),
        )
        write_entries(run / METRICS, [entry for entry in entries if number_of(entry) <= to])
    return aside


def _state(run: Path) -> RunState:
    state = read_state(run)
    if state is None:
        raise FederationError(
            f"{run} is no run of a federation", hint="name the directory that holds its state.json"
        )
    return state


def _require_whole(run: Path, number: int) -> None:
    there = [kept.round for kept in kept_rounds(run) if kept.whole]
    if number not in there:
        raise FederationError(
            f"round {number} of {run} has no checkpoint that can be read",
            hint=f"there are: {', '.join(map(str, there))}" if there else "there is no other",
        )
