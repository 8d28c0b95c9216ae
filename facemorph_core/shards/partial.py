"""Work on a shard that may be killed at any moment: append-only, recorded, resumable.

``OUT.partial/`` holds
    | plan.txt         digest of what is being prepared
    | progress.jsonl   one line per chunk: photos, kept, skipped, doubts; when its pixels are safe
    | landmarks.f32    float32, appended
    | shard/faces.npy  a header of fixed length, pixels appended; the header tells the count at last

On opening, whatever lies behind the last whole line of progress is cut off.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout

from facemorph_core.alignment.frame import FRAME_SIZE, NUM_LANDMARKS
from facemorph_core.disk.output import locked, reported_output
from facemorph_core.disk.private import PRIVATE_FILE, opened_privately, private_folder
from facemorph_core.errors import OutputError, ShardError
from facemorph_core.shards.shard import IndexRow, seal
from facemorph_core.shards.sources import SourcePhoto
from facemorph_core.shards.workers import Chunk

__all__ = ["PartialShard"]

_FACE_BYTES = FRAME_SIZE * FRAME_SIZE * 3
_LANDMARK_BYTES = NUM_LANDMARKS * 2 * 4
_RECORD_BYTES = 400  # of index and progress, about
_KEPT = "what is done is kept: free some space and give the same command again"


@dataclass(eq=False)
class PartialShard:
    """The work directory of one preparation, and how far it is."""

    out: Path
    plan: str
    done: int = 0
    """Photos of the source that are dealt with."""
    index_entries: list[tuple[int, str]] = field(default_factory=list)
    """(photo, digest) of each face so far."""
    skipped: list[tuple[int, str]] = field(default_factory=list)
    """(photo, reason)."""
    doubts: dict[int, list[str]] = field(default_factory=dict)
    """Row -> what is doubtful about the face."""

    @classmethod
    @contextmanager
    def locked(cls, out: Path, plan: str, *, force: bool = False) -> Iterator[PartialShard]:
        """Open or begin the work on ``out``; one process at a time.

        Raises:
            ShardError: another process is at it, or the work is of another plan (unless ``force``).
            OutputError: it cannot be written.
        """
        work = cls(out, plan)
        with reported_output(work.directory):
            private_folder(work.directory)
        try:
            lock = locked(work.directory / "lock", mode=PRIVATE_FILE, timeout=0)
            with lock, reported_output(out, hint=_KEPT):
                work._open(force=force)
                yield work
        except Timeout as error:
            raise ShardError(
                f"another process is preparing {out}", hint="wait for it, or choose another OUT"
            ) from error

    @property
    def directory(self) -> Path:
        """``OUT.partial``."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def _faces(self) -> Path:
        return self.directory / "shard" / "faces.npy"

    @property
    def _landmarks(self) -> Path:
        return self.directory / "landmarks.f32"

    @property
    def _progress(self) -> Path:
        return self.directory / "progress.jsonl"

    def require_space(self, photos: int) -> None:
        """Refuse at the start what is sure to fill the disk."""
        needed = (photos - self.done) * (_FACE_BYTES + _LANDMARK_BYTES + _RECORD_BYTES)
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise OutputError(
                f"{self.out} needs about {needed / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free",
                hint="free some space, choose another place for OUT, or take fewer with --limit",
            )

    def append(self, chunk: Chunk) -> None:
        """Make a chunk safe on the disk, then record it."""
        _append(self._faces, b"".join(face.tobytes() for face in chunk.faces))
        _append(self._landmarks, b"".join(points.tobytes() for points in chunk.landmarks))
        line = {
            "photos": chunk.photos,
            "kept": chunk.kept,
            "skipped": chunk.skipped,
            "doubts": chunk.doubts,
        }
        _append(self._progress, json.dumps(line).encode() + b"\n")
        self._count(line)

    def finish(self, photos: Sequence[SourcePhoto], *, source: str, detector: str) -> None:
        """Turn the finished work into the shard at ``out``, replacing what is there."""
        shard = self._faces.parent
        with self._faces.open("r+b") as file:
            file.write(_header(len(self.index_entries)))
            os.fsync(file.fileno())
        landmarks = np.fromfile(self._landmarks, dtype=np.float32)
        seal(
            shard,
            landmarks.reshape(-1, NUM_LANDMARKS, 2),
            [_index_row(photos[photo], digest) for photo, digest in self.index_entries],
            source=source,
            skipped=[{"photo": photos[n].name, "reason": reason} for n, reason in self.skipped],
            doubts=self.doubts,
            extra={"plan": self.plan, "detector": detector},
        )
        if self.out.exists():
            self.out.rename(self.directory / "replaced")
        shard.rename(self.out)
        self.discard()

    def discard(self) -> None:
        """Remove the work directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _open(self, *, force: bool) -> None:
        plan_file = self.directory / "plan.txt"
        before = plan_file.read_text() if plan_file.is_file() else None
        if before not in (None, self.plan) and not force:
            raise ShardError(
                f"{self.directory} holds the unfinished work of other photos or settings",
                hint="give the command that began it, or begin anew with --force",
            )
        if before != self.plan:
            self._begin(plan_file)
        self._resume()

    def _begin(self, plan_file: Path) -> None:
        for leftover in self.directory.iterdir():
            if leftover.is_dir():
                shutil.rmtree(leftover)
            elif leftover.name != "lock":
                leftover.unlink()
        private_folder(self._faces.parent)
        _append(self._faces, _header(0))
        _append(self._landmarks, b"")
        _append(self._progress, b"")
        _append(plan_file, self.plan.encode())  # last: with it, the rest is there

    def _resume(self) -> None:
        safe = 0
        for text in self._progress.read_bytes().splitlines(keepends=True):
            line = _parsed(text)
            if line is None or not self._reaches(len(self.index_entries) + len(line["kept"])):
                break
            self._count(line)
            safe += len(text)
        os.truncate(self._progress, safe)
        os.truncate(self._faces, len(_header(0)) + len(self.index_entries) * _FACE_BYTES)
        os.truncate(self._landmarks, len(self.index_entries) * _LANDMARK_BYTES)

    def _reaches(self, faces: int) -> bool:
        """Whether so many faces and landmarks are on the disk."""
        enough = self._faces.stat().st_size >= len(_header(0)) + faces * _FACE_BYTES
        return enough and self._landmarks.stat().st_size >= faces * _LANDMARK_BYTES

    def _count(self, line: dict[str, Any]) -> None:
        row_of = {n: len(self.index_entries) + place for place, (n, _) in enumerate(line["kept"])}
        self.doubts |= {row_of[n]: list(doubts) for n, doubts in line.get("doubts", ())}
        self.index_entries += [(self.done + n, digest) for n, digest in line["kept"]]
        self.skipped += [(self.done + n, reason) for n, reason in line["skipped"]]
        self.done += line["photos"]


def _index_row(photo: SourcePhoto, digest: str) -> IndexRow:
    return IndexRow(photo.person, photo.split, digest, photo.attributes)


def _append(file: Path, data: bytes) -> None:
    with opened_privately(file, "ab") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A line of progress, or None if it was cut short."""
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return line if text.endswith(b"\n") else None


def _header(faces: int) -> bytes:
    """The start of faces.npy; NumPy pads it so that its length does not depend on the count."""
    stream = io.BytesIO()
    shape = (faces, FRAME_SIZE, FRAME_SIZE, 3)
    layout = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, layout)
    return stream.getvalue()
