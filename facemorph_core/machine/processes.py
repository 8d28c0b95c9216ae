"""Worker processes: spawned (dlib's state must not be forked), and gone with their parent."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

import cv2

__all__ = ["worker_pool"]

MOST_ON_WINDOWS = 61
"""Processes that a pool can wait for there."""


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """So many processes of one thread each; they start with the first work, and need not be ended.

    A script that asks for one keeps its work under ``if __name__ == "__main__":``.
    """
    workers = min(workers, MOST_ON_WINDOWS) if os.name == "nt" else workers
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_become_worker)


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
