"""`keep` of docs/deployment.md, which starts programs again; both ends have the same one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from simulations.run import APP
from tests.federation.page import commands_of
from tests.starting import heeding_signals

KEEP = {c.text for c in commands_of(APP / "docs" / "deployment.md") if c.text.startswith("keep()")}
HANGS = 100.0  # seconds

SERVER = """\
import signal, sys, time
def stop(number, frame):
    if stop.asked: open("twice", "w").close()
    stop.asked = True
stop.asked = False
if "deaf" not in sys.argv: signal.signal(signal.SIGTERM, stop)
open("starts", "a").write("x")
while not stop.asked: time.sleep(0.05)
time.sleep(0.3)  # a second signal would come now
"""


@dataclass
class Kept:
    """A script that keeps a server, as `keep python server.py &`."""

    folder: Path
    shell: subprocess.Popen[bytes]

    @property
    def starts(self) -> int:
        """How often the server came up."""
        file = self.folder / "starts"
        return len(file.read_text()) if file.exists() else 0

    @property
    def keeper(self) -> int:
        return int((self.folder / "keeper").read_text())

    def of_it(self) -> list[psutil.Process]:
        """What was started for it and runs, whoever the parent is by now."""
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if each.cwd() == str(self.folder) and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
        return found

    def servers(self) -> list[psutil.Process]:
        """The programs among these."""
        return [each for each in self.of_it() if each.name().startswith("python")]


@pytest.fixture(params=["", "set -m"], ids=["in a script", "with job control"])
def kept(request, tmp_path) -> Iterator[Callable[[str], Kept]]:
    made: list[Kept] = []

    def keep(words: str) -> Kept:
        [definition] = KEEP
        server = tmp_path / "server.py"
        server.write_text(SERVER)
        start = f"keep {sys.executable} {server} {words} & echo $! > keeper; wait $!"
        script = f"{request.param}\n{definition}\n{start}\n"
        command = ["bash", "--noprofile", "--norc", "-c", script]
        shell = subprocess.Popen(heeding_signals(command), cwd=tmp_path, start_new_session=True)
        made.append(Kept(tmp_path, shell))
        wait_until(lambda: made[-1].starts == 1)
        return made[-1]

    yield keep
    for each in made:
        each.shell.kill()
        for process in each.of_it():
            process.kill()
        each.shell.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_asked_to_stop_ends_with_its_program_which_is_asked_once(kept, number):
    held = kept("")
    is_job = os.getpgid(held.keeper) == held.keeper
    (os.killpg if is_job else os.kill)(held.keeper, number)  # as `kill %1`, or `kill $!`
    has_ended(held)
    assert not (held.folder / "twice").exists()


@pytest.mark.parametrize("kept", ["set -m"], indirect=True)
def test_ctrl_c_in_the_foreground_stops_both(kept):
    held = kept("")
    os.killpg(held.keeper, signal.SIGINT)
    has_ended(held)


def test_a_program_that_was_asked_before_it_could_listen_is_not_started_again(kept):
    held = kept("deaf")
    [server] = held.servers()
    server.terminate()
    has_ended(held)


def test_a_program_that_was_killed_is_started_again(kept):
    held = kept("")
    [server] = held.servers()
    server.kill()
    wait_until(lambda: held.starts == 2)


def has_ended(held: Kept) -> None:
    """And nothing was started again, and the script knows that it was meant."""
    assert held.shell.wait(HANGS) == 0
    assert held.servers() == []
    assert held.starts == 1


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANGS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
