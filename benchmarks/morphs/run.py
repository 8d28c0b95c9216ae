"""Seconds and memory of whole processes, from their start to their end.

The entrants take turns, so that whatever else the machine does meets all of them. The first turn
does not count: it brings programs and libraries from the disk. Memory and imports are looked at
in a turn after the others: looking takes time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from benchmarks.morphs.entrants import (
    PEER_HINT,
    Entrant,
    ours,
    plain,
    portraits,
    published,
)
from benchmarks.speed.memory import peaks
from facemorph_core.errors import FaceMorphError
from facemorph_core.machine.describe import describe

__all__ = ["Cost", "MorphsReport", "measured", "run_morphs"]

_EVERY = 0.02
"""Seconds between looks at the memory: the quickest is over in a tenth of one."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one entrant took."""

    name: str
    writes: str
    """The file that it made; empty if none."""
    seconds: tuple[float, ...]
    """Of each run, in the order of the turns."""
    peak_mib: float
    """Of all its processes together."""
    imports_torch: bool

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def relative_to(self, other: Cost) -> float:
        """Time as a share of the other's, turn by turn, the median."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


@dataclass(frozen=True, slots=True)
class MorphsReport:
    """What was measured."""

    machine: str
    costs: Sequence[Cost]
    left_out: str = ""
    """Who did not take part, and how to change that."""


def run_morphs(
    photos: Sequence[Path],
    *,
    facemorph: Path | None,
    runs: int,
    watch: Callable[[str], None] = lambda _: None,
) -> MorphsReport:
    """Measure all programs on two ``photos``, or on the portraits if there are none.

    ``facemorph`` is the Python of an environment that has PyPI's package of that name.
    """
    with tempfile.TemporaryDirectory() as folder:
        a, b = (photo.absolute() for photo in photos or portraits(Path(folder)))
        entrants = [*ours(a, b), *plain(a, b)]
        if facemorph is not None:
            entrants.append(published(facemorph.absolute(), _folder_of(a, b, Path(folder))))
        costs = measured(entrants, runs=runs, watch=watch)
    left_out = "" if facemorph else f"PyPI's facemorph did not take part: {PEER_HINT}."
    return MorphsReport(describe(), costs, left_out)


def measured(
    entrants: Sequence[Entrant], *, runs: int, watch: Callable[[str], None] = lambda _: None
) -> list[Cost]:
    """What each took, in ``runs`` turns.

    Raises:
        FaceMorphError: one failed or made no file.
    """
    turns = []
    for turn in range(runs + 1):
        watch(f"turn {turn} of {runs}" if turn else "first turn, which does not count")
        turns.append([_ran(entrant)[0] for entrant in entrants])
    watch("memory")
    columns = zip(*turns[1:], strict=True)
    return [_cost(entrant, took) for entrant, took in zip(entrants, columns, strict=True)]


def _cost(entrant: Entrant, seconds: tuple[float, ...]) -> Cost:
    """With the memory and the imports of one run more."""
    settings = {**entrant.settings, "PYTHONPROFILEIMPORTTIME": "1"}
    with peaks(lambda _: "all", every=_EVERY) as highest:
        _, told = _ran(replace(entrant, settings=settings))
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    return Cost(entrant.name, entrant.writes, seconds, highest["all"], "torch" in imported)


def _ran(entrant: Entrant) -> tuple[float, str]:
    """Seconds from start to end, and what was written to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        began = perf_counter()
        done = subprocess.run(
            list(entrant.words),
            cwd=folder,
            env={**os.environ, **entrant.settings},
            capture_output=True,
            text=True,
            check=False,
        )
        took = perf_counter() - began
        made = (Path(folder) / entrant.writes).exists()
    if done.returncode or not made:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        last = lines[-1].strip() if lines else f"exit code {done.returncode}"
        raise FaceMorphError(f"{entrant.name} made no morph: {last}")
    return took, done.stderr


def _folder_of(a: Path, b: Path, where: Path) -> Path:
    """A folder that holds these two photos alone, in this order."""
    folder = where / "both"
    folder.mkdir()
    for name, photo in (("a", a), ("b", b)):
        shutil.copyfile(photo, folder / f"{name}{photo.suffix}")
    return folder
