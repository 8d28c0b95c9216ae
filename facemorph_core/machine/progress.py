"""Bars for work that takes a while, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

__all__ = ["BYTES", "COUNTED", "Column", "Progress", "progress_bar", "progress_bars"]

Progress = Callable[[int, int], None]
"""Is told how much is done, of how much in all."""

Column = Literal["what", "note", "spinner", "bar", "count", "bytes", "speed", "elapsed", "left"]
"""Of a bar; "note" is a field of its task, "elapsed" and "left" are times."""
COUNTED: tuple[Column, ...] = ("what", "bar", "count", "left")
BYTES: tuple[Column, ...] = ("bar", "bytes", "speed")

PATIENCE = 0.7
"""Seconds of work that need no bar."""


@contextmanager
def progress_bar(
    what: str = "", *, columns: tuple[Column, ...] = COUNTED, stays: bool = True
) -> Iterator[Progress]:
    """One bar, told (done, total); nothing where stderr is not a terminal.

    It shows once the work has taken PATIENCE, so what is quick neither flickers nor waits for it.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    started = time.monotonic()
    with ExitStack() as shown:
        bars: Bars | None = None

        def told(done: int, total: int) -> None:
            nonlocal bars
            if bars is None and time.monotonic() - started > PATIENCE:
                bars = shown.enter_context(progress_bars(*columns, stays=stays))
                bars.add_task(what, total=None)
            if bars is not None:
                bars.update(bars.task_ids[0], completed=done, total=total)

        yield told


def progress_bars(
    *columns: Column, console: Console | None = None, stays: bool = True, always: bool = False
) -> Bars:
    """Bars of these columns, a context; tasks are added to it.

    ``always`` prints where they stand in the end on what is no terminal too, instead of nothing.
    """
    from rich import progress
    from rich.console import Console

    known: dict[Column, Callable[[], progress.ProgressColumn]] = {
        "what": lambda: progress.TextColumn("{task.description}"),
        "note": lambda: progress.TextColumn("{task.fields[note]}"),
        "spinner": progress.SpinnerColumn,
        "bar": progress.BarColumn,
        "count": progress.MofNCompleteColumn,
        "bytes": progress.DownloadColumn,
        "speed": progress.TransferSpeedColumn,
        "elapsed": progress.TimeElapsedColumn,
        "left": progress.TimeRemainingColumn,
    }
    console = console or Console(stderr=True)
    return progress.Progress(
        *(known[name]() for name in columns),
        console=console,
        transient=not stays,
        disable=not (always or console.is_terminal),
    )
