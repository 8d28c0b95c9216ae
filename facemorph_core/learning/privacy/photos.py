"""Which photos something was computed from: sets of digests that stay at the site.

A photo is known by the SHA-256 of its file, or of its aligned pixels where a shard has no digest
of the file. The same photo saved again as another file counts as another photo.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facemorph_core.disk.private import private_folder
from facemorph_core.disk.records import write_atomic
from facemorph_core.errors import LedgerError

PhotoSet = frozenset[str]


@runtime_checkable
class Photos(Protocol):
    """The part of a shard that tells its photos apart."""

    @property
    def source_digests(self) -> list[str]:
        """SHA-256 of each photo's file, or an empty text."""

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of a split."""

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of these rows."""


def photos_of(shard: Photos, split: str) -> PhotoSet:
    """The photos of a split."""
    return distinct(shard, shard.rows(split))[1]


def distinct(shard: Photos, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], PhotoSet]:
    """``rows`` without those that hold a photo once more, and the photos that they hold."""
    first: dict[str, int] = {}
    for row in rows.tolist():
        first.setdefault(_digest(shard, row), row)
    return np.array(list(first.values()), dtype=np.int64), frozenset(first)


def fingerprint(photos: Iterable[str]) -> str:
    """SHA-256 of a set of photos, whatever their order."""
    return hashlib.sha256("\n".join(sorted(photos)).encode()).hexdigest()


def keep_set(folder: Path, photos: PhotoSet) -> str:
    """Put a set of photos into ``folder``, once; its fingerprint, which is its name there."""
    name = fingerprint(photos)
    if not (folder / name).exists():
        private_folder(folder)
        write_atomic(folder / name, "\n".join(sorted(photos)).encode(), private=True)
    return name


def kept_set(folder: Path, name: str) -> PhotoSet | None:
    """The set of that fingerprint, or None if it was not kept.

    Raises:
        LedgerError: what was kept is another set.
    """
    try:
        photos = frozenset((folder / name).read_text(encoding="utf-8").split("\n"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{folder / name} cannot be read: {error}") from error
    if fingerprint(photos) != name:
        raise LedgerError(
            f"{folder / name} is not the set of photos that the ledger names",
            hint="restore the file from a backup",
        )
    return photos


def _digest(shard: Photos, row: int) -> str:
    known = shard.source_digests[row]
    return known or hashlib.sha256(shard.images(np.array([row])).tobytes()).hexdigest()
