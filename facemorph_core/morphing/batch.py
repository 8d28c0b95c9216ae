"""Every pair of photos morphed, a file each; what is made already is not made again.

A batch is a folder: ``batch.json`` says how it is made, ``made.jsonl`` has a line for each pair
with its file, the hashes of its photos, which face of each is meant, what is doubtful about it, and
the problem if there was one. A pair that failed is tried again the next time, and one of other
photos or other faces than before is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from facemorph_core.alignment.align import FaceChoice
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.disk.output import check_apart, named_after, reported_output
from facemorph_core.disk.records import append_entry, read_entries
from facemorph_core.disk.resume import claim
from facemorph_core.disk.run_folder import held_alone
from facemorph_core.errors import PhotoError
from facemorph_core.machine.progress import Progress
from facemorph_core.morphing.engine import Morpher, MorphFace
from facemorph_core.morphing.pair_table import FilePair
from facemorph_core.morphing.transition import DEFAULT_STEPS

__all__ = ["Job", "Outcome", "jobs_of", "run_batch"]

FORMAT_VERSION = 1
MADE = "made.jsonl"
REMEMBERED = 16
"""Faces that are kept: tables often name a photo many times."""


@dataclass(frozen=True, slots=True)
class Job:
    """Two photos, which face of each, and the name of the file that they become."""

    a: Path
    b: Path
    file: str
    faces: tuple[FaceChoice, FaceChoice] = ("largest", "largest")
    line: int = 0
    """Of the table."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job."""

    job: Job
    problem: str | None
    """With one of the photos; None for a morph that is there."""
    tried_now: bool
    doubts: tuple[tuple[Path, str], ...] = ()
    """A photo and what is doubtful about its face."""


def jobs_of(pairs: Sequence[FilePair], suffix: str) -> list[Job]:
    """A job for each pair; files are named by number and photos, as 0001-anna-ben.gif."""
    jobs = []
    for number, pair in enumerate(pairs, start=1):
        file = f"{number:04d}-{named_after([pair.a, pair.b])}{suffix}".replace("%", "_")
        jobs.append(Job(pair.a, pair.b, file, (pair.face_a, pair.face_b), pair.line))
    return jobs


def run_batch(
    jobs: Sequence[Job],
    morpher: Morpher,
    folder: Path,
    *,
    steps: int = DEFAULT_STEPS,
    saved: Mapping[str, Any],
    progress: Progress | None = None,
) -> list[Outcome]:
    """Make what is missing in ``folder``, one after the other.

    ``saved`` goes to `MorphSequence.save`. A folder of morphs that were made otherwise is refused.

    Raises:
        OutputError: the folder holds something else, is in use, or cannot be written, or a photo
            of the table would be replaced by a morph.
    """
    settings = {**morpher.settings, **saved, "steps": steps}
    face = lru_cache(maxsize=REMEMBERED)(morpher.face)
    outcomes = []
    with held_alone(folder, other="batch", hint="wait for it, or choose another folder"):
        claim(folder, {"format_version": FORMAT_VERSION, **settings}, what="batch")
        check_apart(
            [folder / job.file for job in jobs], [photo for job in jobs for photo in (job.a, job.b)]
        )
        made = {entry.get("file"): entry for entry in read_entries(folder / MADE)}
        for job in jobs:
            wanted = _wanted(job)
            entry = made.get(job.file, {})
            missing = not _is_of(entry, wanted) or not (folder / job.file).exists()
            if missing:
                entry = wanted | _made(job, morpher, face, folder, steps, saved)
                append_entry(folder / MADE, entry)
            outcomes.append(Outcome(job, entry["problem"], missing, _doubts(job, entry)))
            if progress:
                progress(len(outcomes), len(jobs))
    return outcomes


def _wanted(job: Job) -> dict[str, Any]:
    """What a line of ``made.jsonl`` must say for its file to be the job's."""
    hashes = {"a": _hash(job.a), "b": _hash(job.b)}
    return {"file": job.file, **hashes, "faces": list(job.faces)}


def _is_of(entry: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a line tells of this, made without a problem and with its doubts."""
    same = all(entry.get(key) == value for key, value in wanted.items())
    return same and entry.get("problem") is None and _is_pair_of_lists(entry.get("doubts"))


def _is_pair_of_lists(value: Any) -> bool:
    return isinstance(value, list) and [type(each) for each in value] == [list, list]


def _doubts(job: Job, entry: Mapping[str, Any]) -> tuple[tuple[Path, str], ...]:
    both = zip((job.a, job.b), entry["doubts"], strict=True)
    return tuple((photo, str(doubt)) for photo, doubts in both for doubt in doubts)


def _made(
    job: Job,
    morpher: Morpher,
    face: Callable[[Path, FaceChoice], MorphFace],
    folder: Path,
    steps: int,
    saved: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the morph; the problem if there is one with a photo, and then no file."""
    with reported_output(folder):
        (folder / job.file).unlink(missing_ok=True)
    try:
        faces = [face(*each) for each in zip((job.a, job.b), job.faces, strict=True)]
    except PhotoError as error:
        return {"doubts": [[], []], "problem": str(error)}
    film = morpher.film(faces, steps=steps)
    film.save(folder / job.file, force=True, **saved)
    return {"doubts": [list(each.doubts) for each in faces], "problem": None}


def _hash(photo: Path) -> str | None:
    """SHA-256 of the file; None if it cannot be read."""
    try:
        return file_sha256(photo)
    except OSError:
        return None
