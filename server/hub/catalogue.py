"""A directory of published bundles: ``NAME/VERSION.facemorph``, version 1, 2, 3, ...

A published file is never changed, so what was verified once is verified until its size, time or
inode differ. A damaged one is named in the log, listed as damaged and never handed out.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from facemorph_core.bundle.manifest import Manifest
from facemorph_core.bundle.read import open_bundle, verify
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.disk.output import locked, output_error, sync_folder, written_whole
from facemorph_core.errors import (
    BundleError,
    HubError,
    UnknownModel,
)
from facemorph_core.hub.reference import LATEST, NAME, checked_name

__all__ = ["Catalogue", "Entry", "publish"]

log = logging.getLogger(__name__)

VERSION_FILE = re.compile(r"([1-9][0-9]{0,8})\.facemorph")


@dataclass(frozen=True, slots=True)
class Entry:
    """One published version as it was when it was verified."""

    name: str
    version: int
    path: Path
    size: int
    sha256: str
    summary: str
    """The manifest without its list of members and the run's config, as JSON; empty if damaged."""

    @property
    def damaged(self) -> bool:
        """Whether it is listed but not served."""
        return not self.summary


class Catalogue:
    """What lies in ``folder`` now. Safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise HubError(
                f"{folder} is not a directory of bundles",
                hint=f"python -m server publish BUNDLE {folder} --name NAME",
            )
        self.folder = folder
        self._verified: dict[Path, tuple[tuple[int, ...], Entry]] = {}
        self._lock = threading.Lock()

    def entries(self) -> list[Entry]:
        """Every version by name, oldest first, damaged ones too."""
        found = [
            self._entry(folder.name, version, path)
            for folder in sorted(self.folder.iterdir())
            if NAME.fullmatch(folder.name) and folder.is_dir()
            for version, path in _versions(folder)
        ]
        return [entry for entry in found if entry is not None]

    def find(self, name: str, version: int = LATEST) -> Entry:
        """One version; ``LATEST`` is the newest that is not damaged.

        Raises:
            InvalidReference: the name cannot be a model's.
            UnknownModel: there is no such model, or not this version.
            BundleError: the version is damaged.
        """
        versions = dict(_versions(self.folder / checked_name(name)))
        if version == LATEST:
            found = (self._entry(name, v, versions[v]) for v in sorted(versions, reverse=True))
            entry = next((e for e in found if e is not None and not e.damaged), None)
        else:
            path = versions.get(version)
            entry = self._entry(name, version, path) if path else None
        if entry is None:
            raise UnknownModel(f"there is no {name}@{version or 'latest'}")
        if entry.damaged:
            raise BundleError(f"{name}@{version} is damaged")
        return entry

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[IO[bytes]]:
        """The bytes of ``entry``: the very file that was verified, or an error."""
        with entry.path.open("rb") as file:
            known = self._verified.get(entry.path)
            if known is None or known[0] != _stamp(os.fstat(file.fileno())):
                raise BundleError(f"{entry.name}@{entry.version} changed on disk; ask again")
            yield file

    def _entry(self, name: str, version: int, path: Path) -> Entry | None:
        """The entry of ``path``, read again only if the file is another; None if it is gone."""
        try:
            stamp = _stamp(path.stat())
            with self._lock:
                known = self._verified.get(path)
                if known is None or known[0] != stamp:
                    known = self._verified[path] = (stamp, _read(name, version, path))
            return known[1]
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error.strerror or error)
            return None


def publish(bundle: Path, folder: Path, name: str) -> Entry:
    """Copy a verified bundle to ``folder`` as the next version of ``name``; whole or not at all.

    The same bundle as the newest version is not published twice: that version is returned.

    Raises:
        BundleError: the bundle is damaged, or does not reproduce its test vector.
        OutputError: the directory cannot be written.
    """
    home = folder / checked_name(name)
    if not bundle.is_file():
        raise BundleError(f"there is no bundle {bundle}")
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / ".lock"):
            return _publish_locked(bundle, home)
    except OSError as error:
        raise output_error(error, home) from error


def summary_of(manifest: Manifest) -> str:
    """What a reader wants to know before a download, one JSON object."""
    return json.dumps(manifest.model_dump(mode="json", exclude={"members", "config"}))


def _publish_locked(bundle: Path, home: Path) -> Entry:
    verified = verify(bundle)
    versions = dict(_versions(home))
    newest = max(versions, default=0)
    if newest and file_sha256(versions[newest]) == verified.digest:
        return _read(home.name, newest, versions[newest])
    path = home / f"{newest + 1}.facemorph"
    _copy(bundle, path, sha256=verified.digest)
    return _read(home.name, newest + 1, path)


def _copy(bundle: Path, path: Path, *, sha256: str) -> None:
    """``path`` appears at once, with the bytes that were verified, and survives a power cut."""
    for leftover in path.parent.glob(".*.facemorph"):
        leftover.unlink()  # of a publication that was killed
    with written_whole(path) as incoming:
        shutil.copyfile(bundle, incoming)
        if file_sha256(incoming) != sha256:
            raise BundleError(f"{bundle} changed while it was copied")
    sync_folder(path.parent)


def _read(name: str, version: int, path: Path) -> Entry:
    size = path.stat().st_size
    try:
        bundle = open_bundle(path)
    except BundleError as error:
        log.warning("%s@%d is not served: %s", name, version, error)
        return Entry(name, version, path, size, "", "")
    return Entry(name, version, path, size, bundle.digest, summary_of(bundle.manifest))


def _versions(folder: Path) -> list[tuple[int, Path]]:
    """Numbers and files of one model, oldest first; what else lies there is none of ours."""
    if not folder.is_dir():
        return []
    named = ((VERSION_FILE.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match and path.is_file())


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
