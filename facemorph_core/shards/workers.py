"""Align many photos on all cores, in order, and survive the photo that kills a process."""

from __future__ import annotations

import logging
import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.align import AlignedFace, align_face, choose_face
from facemorph_core.alignment.detector_names import DetectorName
from facemorph_core.alignment.detectors import detector_named
from facemorph_core.alignment.landmarks import LandmarkDetector
from facemorph_core.alignment.photo import decode_photo, open_photo
from facemorph_core.disk.hashing import stream_sha256
from facemorph_core.errors import PhotoError
from facemorph_core.machine.cores import available_cores
from facemorph_core.machine.processes import worker_pool

__all__ = ["CHUNK", "Chunk", "Way", "align_all", "align_chunk"]

log = logging.getLogger(__name__)

CHUNK = 32  # photos that are aligned, written and recorded together
DIED = "a process died on it (memory, or a fault in a decoder)"

FaceRule = Literal["largest", "only"]


@dataclass(frozen=True, slots=True)
class Way:
    """How faces are found and chosen."""

    face: FaceRule
    detector: DetectorName = "dlib"


@dataclass(frozen=True, slots=True)
class Kept:
    """The face of a photo."""

    face: AlignedFace
    digest: str
    """SHA-256 of the photo's file."""
    doubts: tuple[str, ...]


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
    doubts: list[tuple[int, Sequence[str]]] = field(default_factory=list)
    """(photo, what is doubtful about its face), of those that are kept."""

    def add(self, photo: int, outcome: Kept | str) -> None:
        """Record a face, or a reason."""
        if isinstance(outcome, str):
            self.skipped.append((photo, outcome))
            return
        self.faces.append(outcome.face.pixels)
        self.landmarks.append(outcome.face.landmarks.astype(np.float32))
        self.kept.append((photo, outcome.digest))
        if outcome.doubts:
            self.doubts.append((photo, outcome.doubts))


def align_all(paths: Sequence[Path], way: Way, *, workers: int | None = None) -> Iterator[Chunk]:
    """Chunks of ``paths`` in order, computed by ``workers`` processes (None: one per core)."""
    todo = deque(paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))
    count = min(workers or available_cores(), len(todo))
    if count > 1 and not multiprocessing.current_process().daemon:
        yield from _on_all_cores(todo, way, count)
    for chunk in todo:
        yield align_chunk(chunk, way)


def align_chunk(paths: Sequence[Path], way: Way) -> Chunk:
    """Align a few photos in this process."""
    chunk = Chunk(len(paths))
    for number, path in enumerate(paths):
        chunk.add(number, _aligned(path, way))
    return chunk


def _aligned(path: Path, way: Way) -> Kept | str:
    try:
        with open_photo(path) as stream:
            digest = stream_sha256(stream)
            stream.seek(0)
            image = decode_photo(stream, path)
        found = choose_face(image, _detector(way.detector), way.face, name=path)
        return Kept(align_face(image, found.landmarks), digest, found.doubts)
    except PhotoError as error:
        return error.reason
    except OSError as error:
        return f"cannot be read ({error.strerror})"


@cache
def _detector(name: DetectorName) -> LandmarkDetector:
    return detector_named(name)


# --- processes -------------------------------------------------------------------------------


def _on_all_cores(todo: deque[Sequence[Path]], way: Way, workers: int) -> Iterator[Chunk]:
    """Empty ``todo`` from the left; what is left when no process can be started stays in it."""
    while todo:
        started = False
        try:
            for chunk in _through_pool(list(todo), way, workers):
                if started:
                    todo.popleft()
                    yield chunk
                started = True
        except BrokenProcessPool:
            if not started:  # for example a script without a __main__ guard
                log.warning("no worker processes can be started here; one core does the work")
                return
            log.warning("a worker process died; looking for the photo")
            yield _one_by_one(todo.popleft(), way)


def _through_pool(chunks: Sequence[Sequence[Path]], way: Way, workers: int) -> Iterator[Chunk]:
    """An empty chunk as a sign of life, then all in order, a few of them under way at any time."""
    running: deque[Future[Chunk]] = deque()
    with _pool(workers) as pool:
        running.append(pool.submit(align_chunk, (), way))
        for chunk in chunks:
            running.append(pool.submit(align_chunk, chunk, way))
            if len(running) > 2 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _one_by_one(paths: Sequence[Path], way: Way) -> Chunk:
    """A chunk on which a worker may have died, photo by photo: only a guilty one is lost."""
    chunk = Chunk(len(paths))
    number = 0
    while number < len(paths):
        try:
            with _pool(1) as pool:
                while number < len(paths):
                    chunk.add(number, pool.submit(_aligned, paths[number], way).result())
                    number += 1
        except BrokenProcessPool:
            chunk.add(number, DIED)
            number += 1
    return chunk


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    pool = worker_pool(workers)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
