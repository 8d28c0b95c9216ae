"""Photos a second that `facemorph-core prepare` aligns, and whether its memory stays flat."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.memory import peaks
from facemorph_core.errors import FaceMorphError

__all__ = ["COUNTS", "Prepared", "preparation"]

COUNTS = (500, 2000)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One preparation."""

    photos: int
    """That were read, those without a face too."""
    seconds: float
    peak_mib: float
    """Of all its processes together."""

    @property
    def photos_per_second(self) -> float:
        return self.photos / self.seconds


def preparation(data: Path, counts: Sequence[int] = COUNTS) -> list[Prepared]:
    """Prepare so many photos of CelebA, as a user would, start of the processes and all."""
    return [_prepared(data, count) for count in counts]


def _prepared(data: Path, count: int) -> Prepared:
    with tempfile.TemporaryDirectory() as folder, peaks(lambda _: "all") as highest:
        command = [sys.executable, "-m", "facemorph_core", "prepare", str(data)]
        options = ["--source", "celeba", "--limit", str(count), "--out", f"{folder}/shard"]
        done = subprocess.run(
            [*command, *options, "--json"], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise FaceMorphError(done.stderr.strip() or "facemorph-core prepare failed")
    found = json.loads(done.stdout)
    photos = found["photos"] + sum(found["skipped"].values())
    return Prepared(photos, found["seconds"], highest["all"])
