"""Pictures that do not depend on each other, side by side; one stream of them for several takers.

Nothing here grows with the number of pictures: each is made when there is room for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from typing import Any, TypeVar

from facemorph_core.machine.cores import available_cores
from facemorph_core.machine.progress import Progress

__all__ = ["Abandoned", "in_turn", "side_by_side", "taken_by_all", "threads_at_most"]

T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS = 4
"""Each holds a picture or two."""
_END, _BROKEN = object(), object()


class Abandoned(BaseException):
    """What was to be taken will not come: whoever took it tidies up and goes."""


def threads_at_most() -> int:
    """So many pictures are made at a time."""
    return min(MOST_THREADS, available_cores())


def side_by_side(jobs: Sequence[Callable[[], T]], progress: Progress | None = None) -> list[T]:
    """What the jobs come to, in their order; ``progress`` is told (done, total)."""
    found: list[T] = []
    for each in in_turn(jobs):
        found.append(each)
        if progress:
            progress(len(found), len(jobs))
    return found


def in_turn(jobs: Iterable[Callable[[], T]], *, threads: int | None = None) -> Iterator[T]:
    """What the jobs come to, in their order, as it is asked for.

    As many are worked on as there are ``threads``, and one more waits: a job begins only once
    those before have been taken.
    """
    count = threads or threads_at_most()
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(max_workers=count) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def taken_by_all(items: Iterable[T], takers: Sequence[Callable[[Iterator[T]], R]]) -> list[R]:
    """Each of ``takers`` is given all ``items``, as they come; what each comes to.

    The slowest sets the pace, an item or two behind the first. If ``items`` fail, the takers are
    sent `Abandoned`; if a taker fails, the others go on, and its error is raised at the end.
    """
    if not takers:
        return []
    if len(takers) == 1:  # no thread between
        return [takers[0](iter(items))]
    queues: list[Queue[Any]] = [Queue(maxsize=1) for _ in takers]
    gone: list[object] = []
    with ThreadPoolExecutor(max_workers=len(takers)) as pool:
        last: object = _BROKEN
        pairs = zip(takers, queues, strict=True)
        work = [pool.submit(_take, taker, queue, gone) for taker, queue in pairs]
        try:
            for item in items:
                if len(gone) == len(takers):  # nobody is left to make it for
                    break
                for queue in queues:
                    queue.put(item)
            last = _END
        finally:
            for queue in queues:
                queue.put(last)
    return [each.result() for each in work]


def _take(taker: Callable[[Iterator[T]], R], queue: Queue[Any], gone: list[object]) -> R:
    rest = _arriving(queue)
    try:
        return taker(rest)
    finally:
        gone.append(taker)
        _let_pass(rest)


def _arriving(queue: Queue[Any]) -> Iterator[Any]:
    while (item := queue.get()) is not _END:
        if item is _BROKEN:
            raise Abandoned
        yield item


def _let_pass(items: Iterator[object]) -> None:
    """Nobody waits for a taker that needs no more."""
    for _ in items:
        pass
