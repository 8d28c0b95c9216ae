"""The benchmark of detectors: every detector on every picture."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.detectors.measure import (
    Seen,
    SetScores,
    by_trait,
    false_faces,
    look_at,
    scores_of,
)
from benchmarks.detectors.photos import all_of_val, scene, sets_of
from facemorph_core.alignment.detector_names import DetectorName
from facemorph_core.alignment.detectors import detector_named
from facemorph_core.machine.progress import progress_bar
from facemorph_core.metrics.bootstrap import Interval

__all__ = ["DETECTORS", "DetectorScores", "run_detectors"]

DETECTORS: tuple[DetectorName, ...] = ("dlib", "mediapipe")
PLAIN = "CelebA, aligned"
_MEMORY = """
import sys
from facemorph_core.alignment.detectors import detector_named
from facemorph_core.alignment.photo import load_photo
from facemorph_core.machine.describe import peak_memory
photo = load_photo(sys.argv[1])
before = peak_memory()
detector_named(sys.argv[2]).detect(photo)
print(peak_memory() - before)
"""


@dataclass(frozen=True, slots=True)
class DetectorScores:
    """Of one detector."""

    name: str
    sets: dict[str, SetScores]
    missed: dict[str, dict[str, tuple[int, Interval]]]
    """Trait -> group -> pictures, percentage without a found face; of all photos of val."""
    false: list[str]
    """Pictures without a face in which it finds one."""
    without: int
    """How many such pictures there were."""
    mib: float
    """What the first photo of a process adds to its memory at most."""


def run_detectors(
    data: Path, wild: Path | None, *, people: int, made: int, groups: bool
) -> list[DetectorScores]:
    """Each in turn; progress on stderr."""
    sets, table = sets_of(data, wild, people=people, made=made), scene()
    every = {"all of val": all_of_val(data) if groups else []}
    seen: dict[str, dict[str, list[Seen]]] = {}
    for name in DETECTORS:
        with progress_bar(name) as progress:
            seen[name] = look_at(sets | every, detector_named(name), table, progress=progress)
    plain = {name: {each.picture.name: each for each in seen[name][PLAIN]} for name in DETECTORS}
    found = []
    for name in DETECTORS:
        false, without = false_faces(detector_named(name))
        scores = {
            kind: scores_of(seen[name][kind], plain["dlib"], plain[name])
            for kind in sets
            if seen[name][kind]
        }
        missed = by_trait(seen[name]["all of val"]) if groups else {}
        memory = _added_memory(sets[PLAIN][0].file, name)
        found.append(DetectorScores(name, scores, missed, false, without, memory))
    return found


def _added_memory(photo: Path, name: str) -> float:
    command = [sys.executable, "-c", _MEMORY, str(photo), name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
