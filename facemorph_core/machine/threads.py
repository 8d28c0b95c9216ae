"""Pictures that do not depend on each other, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from facemorph_core.machine.cores import available_cores
from facemorph_core.machine.progress import Progress

__all__ = ["side_by_side"]

T = TypeVar("T")

MOST_THREADS = 4
"""Each holds a picture or two."""


def side_by_side(jobs: Sequence[Callable[[], T]], progress: Progress | None = None) -> list[T]:
    """What the jobs come to, in their order; ``progress`` is told (done, total)."""
    found: list[T] = []
    with ThreadPoolExecutor(max_workers=min(MOST_THREADS, available_cores())) as pool:
        for each in pool.map(_done, jobs):
            found.append(each)
            if progress:
                progress(len(found), len(jobs))
    return found


def _done(job: Callable[[], T]) -> T:
    return job()
