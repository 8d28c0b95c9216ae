"""The most memory that processes take together, by what they are, while something runs."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil

__all__ = ["peaks", "program_of"]

MIB = 2**20


@contextmanager
def peaks(
    label: Callable[[Sequence[str]], str], *, every: float = 0.2
) -> Iterator[dict[str, float]]:
    """MiB of resident memory that this process' descendants take at most, by ``label``.

    ``label`` names a process by its command line; the empty name leaves it out. They are
    looked at ``every`` few seconds; the figures are complete when the block ends. Pages that
    processes share count in each.
    """
    highest: dict[str, float] = {}
    ended = threading.Event()
    arguments = (label, highest, ended, every)
    watcher = threading.Thread(target=_watch, args=arguments, daemon=True)
    watcher.start()
    try:
        yield highest
    finally:
        ended.set()
        watcher.join()


def program_of(line: Sequence[str]) -> str:
    """Name of the program of a command line: that of the script for an interpreter."""
    words = [word.rsplit("/", 1)[-1] for word in line[:2]]
    if not words:
        return ""
    return words[1] if words[0].startswith("python") and len(words) > 1 else words[0]


def _watch(
    label: Callable[[Sequence[str]], str],
    highest: dict[str, float],
    ended: threading.Event,
    every: float,
) -> None:
    me = psutil.Process()
    while not ended.wait(every):
        now: defaultdict[str, float] = defaultdict(float)
        for process in me.children(recursive=True):
            try:
                name = label(process.cmdline())
                if name:
                    now[name] += process.memory_info().rss / MIB
            except psutil.Error:
                continue
        for name, taken in now.items():
            highest[name] = max(highest.get(name, 0.0), taken)
