"""A bundle from a hub to a file: in pieces, resumable, and nothing that was not announced.

The header of the stream says how large the bundle is and what its SHA-256 is. A download that
breaks off leaves its bytes in the partial file; the next attempt asks for the rest.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from facemorph_core.errors import HubError, HubUnreachable
from facemorph_core.hub.proto import hub_pb2

__all__ = ["MAX_BYTES", "Progress", "Stream", "check_announced", "download"]

log = logging.getLogger(__name__)

MAX_BYTES = 4 * 2**30
"""A larger bundle is refused before a byte of it is written."""
ATTEMPTS_WITHOUT_PROGRESS = 3
PAUSE_SECONDS = 0.5
SHA256 = re.compile(r"[0-9a-f]{64}")

Stream = Callable[[int], Iterator[hub_pb2.Chunk]]
"""Opens the stream of chunks from an offset on."""
Progress = Callable[[int, int], None]
"""Is told how many bytes of how many are there."""


def download(
    stream: Stream,
    partial: Path,
    *,
    size: int,
    sha256: str,
    progress: Progress | None = None,
) -> None:
    """Complete ``partial``, which may hold the beginning already, and verify its SHA-256.

    Raises:
        HubUnreachable: the hub went away; ``partial`` stays, to be resumed.
        HubError: what came is not what was announced; ``partial`` is gone.
    """
    resumed = _fill(stream, partial, size=size, sha256=sha256, progress=progress)
    if _sha256_of(partial) == sha256:
        return
    partial.unlink()
    if not resumed:
        raise HubError("the bundle that came from the hub does not have the announced SHA-256")
    log.warning("the beginning of an earlier download was damaged; fetching all of it again")
    download(stream, partial, size=size, sha256=sha256, progress=progress)


def check_announced(size: int, sha256: str) -> None:
    """Refuse a size or a digest that no bundle has."""
    if not 0 < size <= MAX_BYTES or not SHA256.fullmatch(sha256):
        raise HubError(f"the hub announces what cannot be a bundle: {size} bytes")


def _fill(
    stream: Stream,
    partial: Path,
    *,
    size: int,
    sha256: str,
    progress: Progress | None,
) -> bool:
    """Append until ``size`` is reached; whether there was a beginning already."""
    failures = 0
    with partial.open("ab") as file:
        resumed = file.tell() > 0
        if file.tell() > size:
            file.truncate(0)
            file.seek(0)
        while file.tell() < size:
            before = file.tell()
            try:
                _append(stream(before), file, size=size, sha256=sha256, progress=progress)
            except HubUnreachable as error:
                failures = 0 if file.tell() > before else failures + 1
                if failures >= ATTEMPTS_WITHOUT_PROGRESS:
                    raise
                log.info("%s; resuming at byte %d", error, file.tell())
                time.sleep(PAUSE_SECONDS)
        file.flush()
        os.fsync(file.fileno())
    return resumed


def _append(
    chunks: Iterator[hub_pb2.Chunk],
    file: IO[bytes],
    *,
    size: int,
    sha256: str,
    progress: Progress | None,
) -> None:
    header = next(chunks, hub_pb2.Chunk()).header
    if (header.size, header.sha256) != (size, sha256):
        raise HubError("the bundle changed at the hub while it was fetched", hint="fetch it again")
    for chunk in chunks:
        if file.tell() + len(chunk.data) > size:
            raise HubError("the hub sends more bytes than it announced")
        file.write(chunk.data)
        if progress is not None:
            progress(file.tell(), size)
    if file.tell() < size:
        raise HubUnreachable("the hub ended the download early")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
