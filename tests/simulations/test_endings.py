"""Nothing outlives its starter: whichever signal ends it, alone or with its group, even SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from server.runstate import read_state
from simulations.family import family
from simulations.run import APP
from tests.federation.local_grid import tiny_shard
from tests.simulations.test_simulation import TINY
from tests.starting import heeding_signals

CUT_LOOSE = """
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork():
    os._exit(0)  # as a daemon: its parent is gone, and its session is its own
os.setsid()
print(os.getpid(), flush=True)
time.sleep(600)
"""
STARTER = f"""
import subprocess, sys, time
from facemorph_core.cli import edge
from simulations.family import family

def start():
    with family(patience=1) as kin:
        child = kin.start([sys.executable, "-c", {CUT_LOOSE!r}], stdout=subprocess.PIPE, text=True)
        print(child.stdout.readline().strip(), kin.folder, flush=True)
        time.sleep(600)

edge.run(start)
"""


def to_itself(process: subprocess.Popen, *numbers: int) -> None:
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)


def to_its_group(process: subprocess.Popen, *numbers: int) -> None:
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):  # ended by the one before
            os.killpg(process.pid, number)
        time.sleep(0.2)


def left_of(pids: set[int], scratch: Path, *, seconds: float = 120) -> list[str]:
    """The processes and what lies in the folder, as far as they are still there after waiting."""
    deadline = time.monotonic() + seconds
    while True:
        left = [said for pid in pids if (said := alive(pid))]
        left += [str(path) for path in scratch.glob("*")]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


def alive(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return "" if process.status() == "zombie" else " ".join(process.cmdline()[:3])
    except psutil.Error:
        return ""


@pytest.mark.parametrize("send", [to_itself, to_its_group])
@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGINT,),
        (signal.SIGTERM,),
        (signal.SIGHUP,),
        (signal.SIGKILL,),
        (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
    ],
    ids=lambda numbers: "+".join(number.name for number in numbers),
)
def test_a_family_ends_with_its_starter(
    send: Callable[..., None], numbers: tuple[signal.Signals, ...], short_folder: Path
) -> None:
    """Also one that has left the tree, the session and the group, and ignores signals."""
    starter = subprocess.Popen(
        heeding_signals([sys.executable, "-c", STARTER]),
        cwd=APP,
        env=os.environ | {"PYTHONPATH": str(APP), "TMPDIR": str(short_folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert starter.stdout is not None
    pid, folder = starter.stdout.readline().split()
    daemon = {int(pid)}
    assert left_of(daemon, short_folder, seconds=0) == [alive(int(pid)), folder]
    send(starter, *numbers)
    code = starter.wait()
    if numbers == (signal.SIGKILL,):
        assert code == -signal.SIGKILL
    elif numbers[1:] != numbers[:1]:  # a second Ctrl-C does not wait for the guardian
        assert code == 128 + numbers[0]
        assert not left_of(daemon, short_folder, seconds=0)
    assert not left_of(daemon, short_folder)


def test_a_family_ends_though_its_guardian_was_killed() -> None:
    with family() as kin:
        member = kin.start([sys.executable, "-c", "import time; time.sleep(600)"])
        for child in psutil.Process().children():
            if str(kin.folder) in child.cmdline():
                child.kill()
    assert member.returncode == -signal.SIGTERM
    assert not kin.folder.exists()


def test_a_signal_that_was_ignored_from_the_start_stays_ignored() -> None:
    """As `nohup` asks."""
    script = (
        "import os, signal\nfrom facemorph_core.cli import edge\n"
        "edge.run(lambda: os.kill(os.getpid(), signal.SIGHUP) or print('went on'))"
    )
    done = subprocess.run(
        ["nohup", sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "went on\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("send", "numbers"),
    [
        # make passes SIGTERM on to what it started: it comes twice
        pytest.param(to_its_group, (signal.SIGTERM, signal.SIGTERM), id="a job that is cancelled"),
        pytest.param(to_itself, (signal.SIGHUP,), id="a terminal that is closed"),
        pytest.param(to_itself, (signal.SIGKILL,), id="SIGKILL"),
        pytest.param(to_its_group, (signal.SIGKILL,), id="SIGKILL to the group"),
    ],
)
def test_flower_and_ray_end_with_the_simulation(
    send: Callable[..., None], numbers: tuple[int, ...], tmp_path: Path, short_folder: Path
) -> None:
    shard = tiny_shard(tmp_path / "shard", count=24)
    overrides = [*TINY, f"data.path={shard.path}", "federation.rounds=500"]
    with (tmp_path / "stderr").open("wb") as stderr:
        starter = subprocess.Popen(
            heeding_signals(
                [
                    *(sys.executable, "-m", "simulations", "run", "configs/default.yaml"),
                    *("--runs", str(tmp_path / "runs"), "--cpus", "2"),
                    *(f"--set={item}" for item in overrides),
                ]
            ),
            cwd=APP,
            env=os.environ
            | {"TMPDIR": str(short_folder), "FACEMORPH_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    started: set[int] = set()
    try:
        wait_for_round(starter, tmp_path)
        started = below(starter.pid)
        programs = " ".join(alive(pid) for pid in started)
        assert "flwr-simulation" in programs
        assert "raylet" in programs
        assert "ray::ClientAppActor" in programs
        assert any(short_folder.iterdir())
        send(starter, *numbers)
        starter.wait()
        assert not left_of(started, short_folder)
    finally:
        for pid in started | {starter.pid}:
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()


def wait_for_round(starter: subprocess.Popen, folder: Path) -> None:
    while (state := read_state(folder / "runs" / "default")) is None or state.round < 1:
        assert starter.poll() is None, (folder / "stderr").read_text()
        time.sleep(0.1)


def below(pid: int) -> set[int]:
    """The processes that it started, and those that these did."""
    return {child.pid for child in psutil.Process(pid).children(recursive=True)}
