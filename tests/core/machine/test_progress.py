"""Bars as a terminal shows them, and as nothing else does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import get_args

import pytest
from rich.console import Console

from facemorph_core.machine.progress import Column, progress_bars

SCRIPT = """
from types import SimpleNamespace
from facemorph_core.machine import progress
now = 0.0
progress.time = SimpleNamespace(monotonic=lambda: now)
with progress.progress_bar({how}) as told:
    for done in range(4):
        now += {seconds}; told(1000 * (done + 1), 4000)
"""


def on_terminal(how: str, *, seconds: float) -> bytes:
    pty = pytest.importorskip("pty", reason="Windows has no such terminals", exc_type=ImportError)
    ours, theirs = pty.openpty()
    script = SCRIPT.format(how=how, seconds=seconds)
    process = subprocess.Popen([sys.executable, "-c", script], stderr=theirs)
    assert process.wait() == 0
    os.close(theirs)
    said = b""
    while chunk := _read(ours):
        said += chunk
    os.close(ours)
    return said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the other end is closed
        return b""


def test_long_work_shows_a_bar_on_a_terminal_and_quick_work_does_not():
    for seconds, shown in ((0.0, False), (0.4, True)):
        said = on_terminal("'frames'", seconds=seconds)
        assert (b"frames" in said and b"4000/4000" in said) is shown


def test_a_download_is_counted_in_bytes():
    assert b"4.0/4.0 kB" in on_terminal("columns=progress.BYTES, stays=False", seconds=0.4)


def test_no_terminal_gets_no_bar():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(how="'frames'", seconds=1)], capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("always", [False, True])
def test_off_a_terminal_bars_say_where_they_stand_only_if_told_to(always):
    file = io.StringIO()
    columns: tuple[Column, ...] = get_args(Column)
    with progress_bars(*columns, console=Console(file=file, width=200), always=always) as bars:
        bars.update(bars.add_task("aligning", total=None, note="two left"), completed=3, total=5)
    assert ("aligning two left" in file.getvalue() and "3/5" in file.getvalue()) is always
