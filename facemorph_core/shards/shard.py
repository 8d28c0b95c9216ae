"""The on-disk form of aligned faces: a directory that is mapped, never read whole.

Files:
    | faces.npy      (N, S, S, 3) uint8 RGB, memory-mapped
    | landmarks.npy  (n, 68, 2) float32, (x, y) pixels of the frame, one per line of the index
    | index.csv      row (in faces.npy), digest (SHA-256 of the photo's file), person, split, then
    |                one column per attribute (-1 no, 1 yes, 0 unknown); never a file name
    | shard.json     format version, framing, counts, hashes, what was skipped and why, and what is
    |                doubtful about the faces of which rows (not in shards of earlier versions)

A *view* lacks faces.npy: its shard.json names that of another shard, and its index picks rows from
it. It opens as an ordinary Shard. Row numbers of a Shard always count lines of its own index.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import framing
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.disk.output import reported_output
from facemorph_core.disk.private import opened_privately, private_folder
from facemorph_core.errors import ModelError, OutputError, ShardError
from facemorph_core.shards.files import (
    FORMAT_VERSION,
    SPLITS,
    IndexRow,
    damaged,
    map_faces,
    read_doubts,
    read_index,
    read_landmarks,
    read_manifest,
    write_index,
    write_landmarks,
    write_manifest,
)

__all__ = [
    "FORMAT_VERSION",
    "SPLITS",
    "IndexRow",
    "Shard",
    "check_size",
    "seal",
    "write_shard",
    "write_view",
]


@dataclass(frozen=True, eq=False)
class Shard:
    """Aligned faces of one owner, opened for reading; the pixels stay on disk until asked for.

    Examples:
        >>> faces, landmarks = np.zeros((1, 128, 128, 3), np.uint8), np.zeros((1, 68, 2))
        >>> index = [IndexRow(person="anna", digest="0" * 64)]
        >>> shard = write_shard("shard", faces, landmarks, index)
        >>> len(shard), shard.people, shard.rows("train").tolist(), shard.rows("val").tolist()
        (1, ['anna'], [0], [])
        >>> shard.images([0, 0]).shape
        (2, 128, 128, 3)
    """

    path: Path
    faces_file: Path
    people: list[str]
    splits: NDArray[np.str_]
    attributes: dict[str, NDArray[np.int8]]
    source_digests: list[str] = field(repr=False)
    doubts: dict[int, list[str]] | None = field(repr=False)
    """Row -> what is doubtful about its face, see `alignment.doubts`; None where nobody looked."""
    manifest: dict[str, Any] = field(repr=False)
    _digest: str = field(repr=False)
    _file_rows: NDArray[np.int64] = field(repr=False)
    _faces: NDArray[np.uint8] = field(repr=False)
    _landmarks: NDArray[np.float32] = field(repr=False)

    @classmethod
    def open(cls, path: str | Path) -> Shard:
        """Open a shard or a view; everything but the pixels is verified.

        Raises:
            ShardError: missing, damaged, or of another version.
        """
        path = Path(path).expanduser().resolve()
        manifest, digest = read_manifest(path)
        index = read_index(path, manifest)
        landmarks = read_landmarks(path, manifest, count=len(index.people))
        faces_file = path / manifest["faces"]["file"]  # an absolute name in a view stays one
        faces = map_faces(path, faces_file, manifest)
        if len(index.file_rows) and index.file_rows.max() >= len(faces):
            raise damaged(path, "index.csv names rows that faces.npy does not have")
        return cls(
            path=path,
            faces_file=faces_file,
            people=index.people,
            splits=index.splits,
            attributes=index.attributes,
            source_digests=index.digests,
            doubts=read_doubts(path, manifest),
            manifest=manifest,
            _digest=digest,
            _file_rows=index.file_rows,
            _faces=faces,
            _landmarks=landmarks,
        )

    def __len__(self) -> int:
        return len(self.people)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file again; pickling must not copy a gigabyte of pixels.
        return Shard.open, (self.path,)

    @property
    def size(self) -> int:
        """Side of the aligned faces, pixels."""
        return int(self._faces.shape[1])

    @property
    def framing(self) -> dict[str, Any]:
        """How the faces were framed: size, eye distance, eye centre, landmarks."""
        return dict(self.manifest["framing"])

    @property
    def detector(self) -> str:
        """Who found the faces; shards that do not say it are of when there was dlib's alone."""
        return str(self.manifest.get("detector", "dlib"))

    @property
    def skipped(self) -> list[dict[str, str]]:
        """Photos that are not in the shard: ``photo`` (a name) and ``reason``."""
        return list(self.manifest["skipped"])

    @property
    def is_view(self) -> bool:
        """Whether the pixels lie in another shard."""
        return self.faces_file.parent != self.path

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of ``split`` ("train", "val" or "test"), ascending; may be empty."""
        if split not in SPLITS:
            raise ShardError(f"no split '{split}': a shard has {', '.join(SPLITS)}")
        return np.flatnonzero(self.splits == split).astype(np.int64)

    def images(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Pixels of ``rows`` in their order: (n, S, S, 3) uint8 RGB, a copy."""
        return self._faces[self._file_rows[np.asarray(rows, dtype=np.int64)]]

    def landmarks(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Landmarks of ``rows`` in their order: (n, 68, 2) float32, (x, y) pixels of the frame."""
        return self._landmarks[np.asarray(rows, dtype=np.int64)]

    def digest(self) -> str:
        """SHA-256 of shard.json, which holds the hashes of all the rest: the shard's identity."""
        return self._digest

    def verify_pixels(self) -> None:
        """Read faces.npy whole and compare its hash; ``open`` does this for the small files."""
        if file_sha256(self.faces_file) != self.manifest["faces"]["sha256"]:
            raise damaged(self.path, "faces.npy does not have the recorded hash")


# --- writing ---------------------------------------------------------------------------------


def write_shard(
    out: str | Path,
    faces: NDArray[np.uint8],
    landmarks: NDArray[np.floating[Any]],
    index: Sequence[IndexRow],
    *,
    source: str = "made",
    skipped: Sequence[Mapping[str, str]] = (),
) -> Shard:
    """Write faces that are in memory as a shard; ``out`` appears whole or not at all.

    Raises:
        OutputError: ``out`` exists or cannot be written.
        ValueError: the parts do not have one length, or a split is unknown.
    """
    if not len(faces) == len(landmarks) == len(index):
        raise ValueError(f"{len(faces)} faces, {len(landmarks)} landmarks, {len(index)} rows")
    with _appearing(Path(out)) as directory:
        with opened_privately(directory / "faces.npy", "wb") as file:
            np.save(file, faces, allow_pickle=False)
        seal(directory, landmarks, index, source=source, skipped=skipped)
    return Shard.open(out)


def check_size(held: int, wanted: int) -> None:
    """Raise ModelError if faces of ``held`` px are for a model of ``wanted`` px."""
    if held != wanted:
        raise ModelError(
            f"the shard holds faces of {held} px, the model wants {wanted} px",
            hint="set model.image_size to the shard's size, or prepare the shard again",
        )


def seal(
    directory: Path,
    landmarks: NDArray[np.floating[Any]],
    index: Sequence[IndexRow],
    *,
    source: str,
    skipped: Sequence[Mapping[str, str]] = (),
    doubts: Mapping[int, Sequence[str]] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write what belongs beside a finished ``faces.npy``: index, landmarks, shard.json last."""
    faces = np.load(directory / "faces.npy", mmap_mode="r", allow_pickle=False)
    write_index(directory, range(len(index)), index)
    write_landmarks(directory, landmarks)
    write_manifest(
        directory,
        index,
        framing=framing(int(faces.shape[1])),
        faces={
            "file": "faces.npy",
            "photos": len(faces),
            "sha256": file_sha256(directory / "faces.npy"),
        },
        source=source,
        skipped=[dict(entry) for entry in skipped],
        doubts=doubts,
        extra=extra or {},
    )


def write_view(
    base: Shard,
    rows: Sequence[int] | NDArray[np.integer[Any]],
    out: str | Path,
    *,
    splits: Mapping[int, str] | None = None,
) -> Shard:
    """A shard of its own over ``rows`` of ``base``, without a copy of the pixels.

    Args:
        base: the shard, or view, that is looked at; it must stay where it is.
        rows: row numbers of ``base``, in the order that the view shall have.
        out: directory to write; appears whole or not at all.
        splits: row number of ``base`` -> split, where it shall differ from the base's.
    """
    chosen = [int(row) for row in rows]
    changed = splits or {}
    index = [
        IndexRow(
            person=base.people[row],
            split=changed.get(row, str(base.splits[row])),
            digest=base.source_digests[row],
            attributes={name: int(column[row]) for name, column in base.attributes.items()},
        )
        for row in chosen
    ]
    doubts = base.doubts
    if doubts is not None:
        doubts = {place: doubts[row] for place, row in enumerate(chosen) if row in doubts}
    with _appearing(Path(out)) as directory:
        write_index(directory, base._file_rows[chosen].tolist(), index)
        write_landmarks(directory, base.landmarks(chosen))
        write_manifest(
            directory,
            index,
            framing=base.framing,
            faces={**base.manifest["faces"], "file": str(base.faces_file)},
            source=base.manifest["source"],
            skipped=[],
            doubts=doubts,
            extra={"view_of": base.digest(), "detector": base.detector},
        )
    return Shard.open(out)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A fresh directory beside ``out`` that takes its name at the end, or vanishes."""
    if out.exists():
        raise OutputError(f"{out} exists already", hint="choose another name or remove it")
    temporary = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.tmp"
    with reported_output(out):
        private_folder(temporary)
        try:
            yield temporary
            temporary.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
