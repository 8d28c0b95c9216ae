"""The small files of a shard, and its mapped pixels, as functions.

`facemorph_core.shards.shard` says what they hold. Reading verifies each against the hash in
shard.json; writing waits until the disk has it, and what is written is the owner's alone.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.doubts import kind_of
from facemorph_core.alignment.frame import NUM_LANDMARKS
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.disk.private import opened_privately
from facemorph_core.errors import ShardError

__all__ = [
    "FORMAT_VERSION",
    "SPLITS",
    "Index",
    "IndexRow",
    "damaged",
    "map_faces",
    "read_doubts",
    "read_index",
    "read_landmarks",
    "read_manifest",
    "write_index",
    "write_landmarks",
    "write_manifest",
]

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")
_COLUMNS = ("row", "digest", "person", "split")


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One face of a shard: who, for what, and from which file (by digest)."""

    person: str
    split: str = "train"
    digest: str = ""
    attributes: Mapping[str, int] = field(default_factory=dict)


# --- writing ---------------------------------------------------------------------------------


def write_index(directory: Path, file_rows: Sequence[int], index: Sequence[IndexRow]) -> None:
    unknown = {row.split for row in index} - set(SPLITS)
    if unknown:
        raise ValueError(f"unknown splits {sorted(unknown)}: a shard has {SPLITS}")
    names = sorted({name for row in index for name in row.attributes})
    with opened_privately(directory / "index.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_COLUMNS, *names])
        for file_row, row in zip(file_rows, index, strict=True):
            values = (row.attributes.get(name, 0) for name in names)
            writer.writerow([file_row, row.digest, row.person, row.split, *values])
        _sync(file.fileno())


def write_landmarks(directory: Path, landmarks: NDArray[np.floating[Any]]) -> None:
    with opened_privately(directory / "landmarks.npy", "wb") as file:
        np.save(file, np.ascontiguousarray(landmarks, dtype=np.float32), allow_pickle=False)
        _sync(file.fileno())


def write_manifest(
    directory: Path,
    index: Sequence[IndexRow],
    *,
    framing: Mapping[str, Any],
    faces: Mapping[str, Any],
    source: str,
    skipped: Sequence[Mapping[str, str]],
    doubts: Mapping[int, Sequence[str]] | None,
    extra: Mapping[str, Any],
) -> None:
    manifest = {
        "format_version": FORMAT_VERSION,
        "source": source,
        "framing": framing,
        "faces": faces,
        "counts": {
            "photos": len(index),
            "people": len({row.person for row in index}),
            **{split: sum(row.split == split for row in index) for split in SPLITS},
            "skipped": len(skipped),
            **({} if doubts is None else {"doubtful": kinds_of_doubt(doubts.values())}),
        },
        "sha256": {name: file_sha256(directory / name) for name in ("index.csv", "landmarks.npy")},
        "skipped": skipped,
        **({} if doubts is None else {"doubts": _noted(doubts)}),
        **extra,
    }
    with opened_privately(directory / "shard.json", "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.write("\n")
        _sync(file.fileno())


def kinds_of_doubt(doubts: Iterable[Iterable[str]]) -> dict[str, int]:
    """How many faces there are with each kind of doubt, the most frequent first."""
    counts = Counter(kind for said in doubts for kind in {*map(kind_of, said)})
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _noted(doubts: Mapping[int, Sequence[str]]) -> list[dict[str, Any]]:
    return [{"row": row, "doubts": list(said)} for row, said in sorted(doubts.items())]


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


# --- reading ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Index:
    """The columns of index.csv."""

    file_rows: NDArray[np.int64]
    digests: list[str]
    people: list[str]
    splits: NDArray[np.str_]
    attributes: dict[str, NDArray[np.int8]]


def damaged(path: Path, what: str) -> ShardError:
    return ShardError(
        f"{path} is damaged: {what}", hint="prepare it again: facemorph-core prepare --force"
    )


def read_manifest(path: Path) -> tuple[dict[str, Any], str]:
    file = path / "shard.json"
    if not file.is_file():
        partial = path.with_name(path.name + ".partial").is_dir()
        raise ShardError(
            f"{path} is not a shard: it has no shard.json",
            hint="its preparation was interrupted: run the same `facemorph-core prepare` again"
            if partial
            else "make one: facemorph-core prepare PHOTOS --source folder --out SHARD",
        )
    try:
        data = file.read_bytes()
        manifest = json.loads(data)
        version = manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, "shard.json cannot be read") from error
    if version != FORMAT_VERSION:
        raise ShardError(
            f"{path} has shard format {version}; this version reads format {FORMAT_VERSION}",
            hint="prepare the photos again, or install the version that wrote it",
        )
    if missing := {"source", "framing", "faces", "counts", "sha256", "skipped"} - manifest.keys():
        raise damaged(path, f"shard.json lacks {', '.join(sorted(missing))}")
    return manifest, hashlib.sha256(data).hexdigest()


def read_doubts(path: Path, manifest: Mapping[str, Any]) -> dict[int, list[str]] | None:
    """Row -> what is doubtful about its face; None in a shard that does not say."""
    if "doubts" not in manifest:
        return None
    try:
        return {int(each["row"]): [str(d) for d in each["doubts"]] for each in manifest["doubts"]}
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(path, "its doubts cannot be read") from error


def _verified(path: Path, name: str, manifest: Mapping[str, Any]) -> Path:
    file = path / name
    if not file.is_file():
        raise damaged(path, f"{name} is missing")
    if file_sha256(file) != manifest["sha256"].get(name):
        raise damaged(path, f"{name} does not have the recorded hash")
    return file


def read_index(path: Path, manifest: Mapping[str, Any]) -> Index:
    with _verified(path, "index.csv", manifest).open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(header)
    values = dict(zip(header, columns, strict=True))
    rows, digests, people, splits = (values.pop(name) for name in _COLUMNS)
    return Index(
        file_rows=np.array(rows, dtype=np.int64),
        digests=list(digests),
        people=list(people),
        splits=np.array(splits, dtype=np.str_),
        attributes={name: np.array(column, dtype=np.int8) for name, column in values.items()},
    )


def read_landmarks(path: Path, manifest: Mapping[str, Any], *, count: int) -> NDArray[np.float32]:
    file = _verified(path, "landmarks.npy", manifest)
    landmarks: NDArray[np.float32] = np.load(file, allow_pickle=False)
    if landmarks.shape != (count, NUM_LANDMARKS, 2):
        raise damaged(path, f"landmarks.npy has shape {landmarks.shape} for {count} photos")
    return landmarks


def map_faces(path: Path, file: Path, manifest: Mapping[str, Any]) -> NDArray[np.uint8]:
    recorded = manifest["faces"]
    if file.parent != path:
        _check_base(path, file, recorded["sha256"])
    size = manifest["framing"]["size"]
    try:
        faces = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, f"{file} is missing, cut short or not an array") from error
    if faces.dtype != np.uint8 or faces.shape != (recorded["photos"], size, size, 3):
        raise damaged(path, f"{file} holds {faces.dtype} {faces.shape}")
    return np.asarray(faces)  # still the map; fancy indexing then gives plain arrays


def _check_base(path: Path, file: Path, sha256: str) -> None:
    """Refuse a view whose base was moved or replaced since the view was made."""
    try:
        now = json.loads((file.parent / "shard.json").read_bytes())["faces"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"{path} is a view of {file.parent}, which is no longer there",
            hint="put that shard back, or remove the view so that it is made again",
        ) from error
    if now != sha256:
        raise ShardError(
            f"{path} is a view of {file.parent}, which has changed since",
            hint="remove the view; it will be made again",
        )
