"""A bar for work that takes a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["progress_bar"]

PATIENCE = 0.7
"""Seconds of work that need no bar."""


@contextmanager
def progress_bar(what: str = "") -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, told (done, total); nothing where stderr is not a terminal.

    It shows once the work has taken PATIENCE, so what is quick neither flickers nor waits for it.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    started = time.monotonic()
    with ExitStack() as shown:
        update: Callable[[int, int], None] | None = None

        def told(done: int, total: int) -> None:
            nonlocal update
            if update is None and time.monotonic() - started > PATIENCE:
                update = shown.enter_context(_bar(what))
            if update is not None:
                update(done, total)

        yield told


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
