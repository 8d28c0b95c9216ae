"""Signals that reach what a test starts."""

from __future__ import annotations

import signal


def heeding_signals() -> None:
    """For what a test starts, also where the tests themselves were started to ignore signals.

    As nohup and the background of a shell do.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
