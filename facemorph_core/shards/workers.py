"""Align many photos on all cores, in order, and survive the photo that kills a process.

Workers are spawned (dlib's state must not be forked), limited to one thread each, and end with
their parent, however that ends.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.align import AlignedFace, align_face, choose_face
from facemorph_core.alignment.landmarks import DlibDetector
from facemorph_core.alignment.photo import decode_photo, open_photo
from facemorph_core.errors import PhotoError

__all__ = ["CHUNK", "Chunk", "align_all", "align_chunk", "available_cores"]

log = logging.getLogger(__name__)

CHUNK = 32  # photos that are aligned, written and recorded together
DIED = "a process died on it (memory, or a fault in a decoder)"

FaceRule = Literal["largest", "only"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What became of a few photos, in their order; ``kept`` and ``skipped`` count within them."""

    photos: int
    faces: list[NDArray[np.uint8]] = field(default_factory=list)
    landmarks: list[NDArray[np.float32]] = field(default_factory=list)
    kept: list[tuple[int, str]] = field(default_factory=list)
    """(photo, SHA-256 of its file)."""
    skipped: list[tuple[int, str]] = field(default_factory=list)
    """(photo, reason)."""

    def add(self, photo: int, outcome: tuple[AlignedFace, str] | str) -> None:
        """Record a face with its digest, or a reason."""
        if isinstance(outcome, str):
            self.skipped.append((photo, outcome))
            return
        face, digest = outcome
        self.faces.append(face.pixels)
        self.landmarks.append(face.landmarks.astype(np.float32))
        self.kept.append((photo, digest))


def align_all(
    paths: Sequence[Path], *, face: FaceRule, workers: int | None = None
) -> Iterator[Chunk]:
    """Chunks of ``paths`` in order, computed by ``workers`` processes (None: one per core)."""
    todo = deque(paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))
    count = min(workers or available_cores(), len(todo))
    if count <= 1 or multiprocessing.current_process().daemon or not _can_spawn():
        yield from (align_chunk(chunk, face) for chunk in todo)
        return
    while todo:
        try:
            for chunk in _through_pool(list(todo), face, count):
                yield chunk
                todo.popleft()
        except BrokenProcessPool:
            log.warning("a worker process died; looking for the photo")
            yield _one_by_one(todo[0], face)
            todo.popleft()


def align_chunk(paths: Sequence[Path], face: FaceRule) -> Chunk:
    """Align a few photos in this process."""
    chunk = Chunk(len(paths))
    for number, path in enumerate(paths):
        chunk.add(number, _aligned(path, face))
    return chunk


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _aligned(path: Path, face: FaceRule) -> tuple[AlignedFace, str] | str:
    try:
        with open_photo(path) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            image = decode_photo(stream, path)
        found = choose_face(image, _detector(), face, name=path)
        return align_face(image, found.landmarks), digest
    except PhotoError as error:
        return error.reason
    except OSError as error:
        return f"cannot be read ({error.strerror})"


@cache
def _detector() -> DlibDetector:
    return DlibDetector()


# --- processes -------------------------------------------------------------------------------


def _through_pool(
    chunks: Sequence[Sequence[Path]], face: FaceRule, workers: int
) -> Iterator[Chunk]:
    """Chunks in order, with a few of them under way at any time."""
    waiting = iter(chunks)
    running: deque[Future[Chunk]] = deque()
    with _pool(workers) as pool:
        for chunk in waiting:
            running.append(pool.submit(align_chunk, chunk, face))
            if len(running) > 2 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _one_by_one(paths: Sequence[Path], face: FaceRule) -> Chunk:
    """A chunk on which a worker died: each photo alone, so that only the guilty one is lost."""
    chunk = Chunk(len(paths))
    for number, path in enumerate(paths):
        try:
            with _pool(1) as pool:
                chunk.add(number, pool.submit(_aligned, path, face).result())
        except BrokenProcessPool:
            chunk.add(number, DIED)
    return chunk


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_become_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _can_spawn() -> bool:
    """Whether a process can be spawned at all: not from a script without a __main__ guard."""
    try:
        with _pool(1) as pool:
            return pool.submit(available_cores).result() > 0
    except (BrokenProcessPool, OSError):
        log.warning("no worker processes can be started here; one core does the work")
        return False


def _become_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers; they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
