"""Processes that end with the one that started them, however that ends, even by SIGKILL.

All of a family carry the path of its folder in their environment; what they start inherits it, also
what Ray cuts loose from its parent. Beside them runs a guardian, this file as a program, in a
session that no signal to the starter's group reaches. It reads from a pipe whose other end only the
starter holds. When that closes, the guardian ends whoever carries the path, and removes the folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Family", "family"]

_MARK = "FACEMORPH_FAMILY"
_UNENDING = 30.0  # seconds after which a process that SIGKILL does not end (a dead disk) is left
# Ray makes sockets in "ray/session_DATE_TIME_PID/sockets/plasma_store" below its temporary folder,
# and the path of a socket has 107 bytes at most.
_LONGEST_FOLDER = 107 - 68


@dataclass(frozen=True, slots=True)
class Family:
    """What was started together."""

    folder: Path
    """For whatever they write besides their results; gone with them."""
    started: list[subprocess.Popen[Any]] = field(default_factory=list)

    def environment(self, settings: Mapping[str, str] = os.environ) -> dict[str, str]:
        """``settings`` for a process that belongs to the family.

        Ray names its processes in their title, which would be written over their environment.
        """
        return {**settings, _MARK: str(self.folder), "SPT_NOENV": "1"}

    def start(
        self, command: Sequence[str], *, env: Mapping[str, str] = os.environ, **options: Any
    ) -> subprocess.Popen[Any]:
        """`subprocess.Popen` of a member."""
        process = subprocess.Popen(command, env=self.environment(env), **options)
        self.started.append(process)
        return process


@contextlib.contextmanager
def family(*, patience: float = 10.0) -> Iterator[Family]:
    """A family that ends with the block; after ``patience`` seconds, those who do not heed SIGTERM.

    A signal that breaks into the end leaves it to the guardian.
    """
    kin = Family(_new_folder())
    guardian = subprocess.Popen(
        [sys.executable, "-P", __file__, str(kin.folder), str(patience)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert guardian.stdin is not None
    try:
        yield kin
    finally:
        guardian.stdin.close()
        if guardian.wait() != 0:  # somebody killed it
            _end(kin.folder, patience)
        for process in kin.started:
            process.wait()


def _new_folder() -> Path:
    from facemorph_core.disk.output import reported_output  # the guardian does without

    with reported_output(Path("a temporary folder"), hint="name a writable one in TMPDIR"):
        made = Path(tempfile.mkdtemp(prefix="facemorph-"))
    if len(os.fsencode(made)) <= _LONGEST_FOLDER:
        return made
    made.rmdir()
    return Path(tempfile.mkdtemp(prefix="facemorph-", dir="/tmp"))


# --- the guardian ----------------------------------------------------------------------------


def _guard(folder: Path, patience: float) -> None:
    """Wait until the starter lets go of the pipe, then end the family."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    _end(folder, patience)


def _end(folder: Path, patience: float) -> None:
    """SIGTERM to all of the family, SIGKILL to those who stay, and the folder is gone.

    A process that is just being started shows no environment for a moment: nobody is left when
    nobody is seen twice.
    """
    asked = time.monotonic()
    _signal(_members(folder), signal.SIGTERM)
    unseen = 0
    while unseen < 2 and time.monotonic() - asked < patience + _UNENDING:
        time.sleep(0.1)
        left = _members(folder)
        unseen = 0 if left else unseen + 1
        if time.monotonic() - asked > patience:
            _signal(left, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _members(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # ended, or another user's
            if process.environ().get(_MARK) == str(folder):
                found.append(process)
    return found


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


if __name__ == "__main__":
    _guard(Path(sys.argv[1]), float(sys.argv[2]))
