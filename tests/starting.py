"""Starting a process in other circumstances than those of the tests.

Without Popen's ``preexec_fn``: for it Python forks, and gRPC has threads in these processes. Of two
hundred such forks beside calls of gRPC the copies hung now and then, and on a busy machine one died
before it was what it should become.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_HEED = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
"""


def after(code: str, command: Sequence[str]) -> list[str]:
    """``command``, in a process that has run ``code`` before."""
    become = "import os, sys\nos.execvp(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", f"{code}\n{become}", *command]


def heeding_signals(command: Sequence[str]) -> list[str]:
    """``command``, also where the tests themselves were started to ignore signals.

    As nohup and the background of a shell do.
    """
    return after(_HEED, command)
