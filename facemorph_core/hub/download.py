"""A bundle from a hub to a file: in pieces, resumable, and nothing that was not announced.

The header of the stream says how large the bundle is and what its SHA-256 is. A download that
breaks off leaves its bytes in the partial file; the next attempt asks for the rest. A hub that only
drips is left after a few attempts, and no download takes longer than OVERALL_SECONDS.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from facemorph_core.disk.hashing import file_sha256
from facemorph_core.errors import HubError, HubUnreachable, HubUnusable
from facemorph_core.hub.patience import Retries
from facemorph_core.hub.proto import hub_pb2
from facemorph_core.hub.reference import SHA256
from facemorph_core.machine.progress import Progress

__all__ = ["MAX_BYTES", "Stream", "check_announced", "download"]

log = logging.getLogger(__name__)

MAX_BYTES = 4 * 2**30
"""A larger bundle is refused before a byte of it is written."""
SLOWEST = 2048
"""Bytes a second below which an attempt is no progress."""
OVERALL_SECONDS = 3600.0

Stream = Callable[[int], Iterator[hub_pb2.Chunk]]
"""Opens the stream of chunks from an offset on."""


def download(
    stream: Stream,
    partial: Path,
    *,
    size: int,
    sha256: str,
    progress: Progress | None = None,
    seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Complete ``partial``, which may hold the beginning already, and verify its SHA-256.

    ``seconds`` are OVERALL_SECONDS unless told otherwise.

    Raises:
        HubUnreachable: the hub went away or is too slow; ``partial`` stays, to be resumed.
        HubError: what came is not what was announced; ``partial`` is gone.
    """
    limit = Limit(seconds or OVERALL_SECONDS, clock)
    retries = Retries(limit.seconds, clock, sleep)
    resumed = _fill(stream, partial, limit, retries, size=size, sha256=sha256, progress=progress)
    if file_sha256(partial) == sha256:
        return
    partial.unlink()
    if not resumed:
        raise HubError("the bundle that came from the hub does not have the announced SHA-256")
    log.warning("the beginning of an earlier download was damaged; fetching all of it again")
    download(
        stream,
        partial,
        size=size,
        sha256=sha256,
        progress=progress,
        seconds=limit.left(),
        clock=clock,
        sleep=sleep,
    )


class Limit:
    """The time that a download may take in all."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds, self.clock, self.end = seconds, clock, clock() + seconds

    def left(self) -> float:
        """Seconds until then; HubUnreachable if there are none."""
        left = self.end - self.clock()
        if left <= 0:
            raise TooLong(
                f"the download is not over after {self.seconds:.0f} s",
                hint="what came is kept, and the same command goes on from there",
            )
        return left


class TooLong(HubUnusable):
    """No further attempt is made."""


def check_announced(size: int, sha256: str) -> None:
    """Refuse a size or a digest that no bundle has."""
    if not 0 < size <= MAX_BYTES or not SHA256.fullmatch(sha256):
        raise HubError(f"the hub announces what cannot be a bundle: {size} bytes")


def _fill(
    stream: Stream,
    partial: Path,
    limit: Limit,
    retries: Retries,
    *,
    size: int,
    sha256: str,
    progress: Progress | None,
) -> bool:
    """Append until ``size`` is reached; whether there was a beginning already."""
    with partial.open("ab") as file:
        resumed = file.tell() > 0
        if file.tell() > size:
            file.truncate(0)
            file.seek(0)
        while file.tell() < size:
            before, began = file.tell(), limit.clock()
            try:
                _append(stream(before), file, limit, size=size, sha256=sha256, progress=progress)
            except HubUnreachable as error:
                brought, took = file.tell() - before, limit.clock() - began
                retries.after(error, went_on=brought > 0 and brought >= SLOWEST * took)
        file.flush()
        os.fsync(file.fileno())
    return resumed


def _append(
    chunks: Iterator[hub_pb2.Chunk],
    file: IO[bytes],
    limit: Limit,
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
        limit.left()
        if progress is not None:
            progress(file.tell(), size)
    if file.tell() < size:
        raise HubUnreachable("the hub ended the download early")
