"""Containers and batch jobs: less processor than can be seen, no home, no standard streams.

Public reports:
    | ollama 17916, onyx 12357, ml-agents 4471: a thread for each core that is visible, where a
      container's quota grants a few: many times slower
    | OpenShift origin 23369, outlines 1425: containers under a user id that no file knows, without
      a home
    | crudini 82: a program that is started with its standard output closed
    | rai 35: a limit in time that counts what was written while the clock was ahead
"""

from __future__ import annotations

import math
import os
import pwd
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from flwr.app import Context, RecordDict

from client.node import Site
from facemorph_core.config import load_run_config
from facemorph_core.disk.cache import cache_dir
from facemorph_core.errors import LimitsExceeded, OutputError, ShardError
from facemorph_core.evaluation.morphs.judges import judges_here
from facemorph_core.learning.privacy import Heads, PlainRelease, SiteLedger, SiteLimits
from facemorph_core.learning.privacy import site_ledger as ledgers
from facemorph_core.learning.privacy.limits import DAY
from facemorph_core.learning.training.compute import cpu_threads
from facemorph_core.machine import cores
from facemorph_core.machine.cores import available_cores, cpu_quota
from tests.federation.local_grid import site_settings, tiny_shard, write_config
from tests.starting import after

STARTER = Path(__file__).parents[2] / "facemorph_core" / "assets" / "starter.facemorph"


# --- quotas ----------------------------------------------------------------------------------


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups made of these files, with this process in these."""

    def made(own: str, files: dict[str, str]) -> None:
        root = tmp_path / "cgroup"
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text + "\n")
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(cores, "CONTROL_GROUPS", root)
        monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "own")

    return made


NESTED = {
    "cpu.max": "max 100000",
    "job/cpu.max": "150000 100000",
    "job/step/cpu.max": "800000 100000",
}
VERSION_1 = {"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("own", "files", "granted"),
    [
        ("0::/\n", {"cpu.max": "250000 100000"}, 2.5),
        ("0::/\n", {"cpu.max": "max 100000"}, math.inf),
        ("0::/job/step\n", NESTED, 1.5),  # the tightest of those above counts
        ("0::/../outside\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/docker/0123\n", {"cpu.max": "200000 100000"}, 2.0),  # a path of the machine outside
        (
            "4:cpu,cpuacct:/docker/0123\n2:memory:/x\n",
            {f"cpu,cpuacct/{name}": text for name, text in VERSION_1.items()},
            3.0,
        ),
        (
            "4:cpuacct,cpu:/job\n",  # mounted under another order of these, and as "cpu"
            {f"cpu/job/{name}": text for name, text in VERSION_1.items()},
            3.0,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("0::/\n", {"cpu.max": "nonsense"}, math.inf),
        ("nonsense\n", {}, math.inf),
    ],
)
def test_what_control_groups_grant_is_known(groups, own, files, granted):
    groups(own, files)
    assert cpu_quota() == granted


def test_no_control_groups_are_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "nowhere")
    assert cpu_quota() == math.inf
    assert available_cores() == (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )


def test_a_quota_below_one_core_is_a_core_and_training_takes_no_more(groups):
    groups("0::/\n", {"cpu.max": "50000 100000"})
    assert available_cores() == 1
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with cpu_threads(0):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with cpu_threads(3):  # whoever says a number means it
        assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


# --- no home, no streams ---------------------------------------------------------------------


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A user of an id that the system does not know, without a home."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "FACEMORPH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("nobody")
def test_a_site_without_a_home_answers_where_its_settings_name_all_folders(tmp_path):
    tiny_shard(tmp_path / "shard-1")
    settings = site_settings(tmp_path, 1)
    config = load_run_config(write_config(tmp_path / "tiny.yaml"))

    def site() -> Site:
        return Site.of(Context(1, 1, settings, RecordDict(), {}), config, run_id="0123abcd")

    assert site().heads == tmp_path / "heads"
    del settings["head-dir"]
    with pytest.raises(ShardError, match="no home to keep the ledger's head in") as told:
        site()
    assert "head-dir=" in told.value.hint


@pytest.mark.usefixtures("nobody")
def test_a_user_without_a_home_is_told_and_no_folder_called_tilde_is_made(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="no home") as told:
        cache_dir()
    assert "FACEMORPH_CACHE" in told.value.hint
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "kept"))
    assert cache_dir() == tmp_path / "kept"


@pytest.mark.usefixtures("nobody")
def test_a_report_without_a_home_says_what_it_could_not_measure():
    judges = judges_here()
    assert judges.steps is None
    assert "no home" in judges.unavailable["LPIPS"]
    assert "FACEMORPH_CACHE" in judges.unavailable["LPIPS"]


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize(("model", "code"), [(STARTER, 0), ("nowhere.facemorph", 6)])
def test_a_command_does_its_work_whatever_was_closed_before(closed, model, code):
    done = subprocess.run(
        after(
            f"import os\nfor number in {closed}: os.close(number)",
            [sys.executable, "-m", "facemorph_core", "inspect", str(model)],
        ),
        check=False,
    )
    assert done.returncode == code


def test_no_file_gets_the_number_of_a_stream_that_was_closed(tmp_path):
    """What a library prints would be written into it."""
    script = (
        "import os\nfrom facemorph_core.cli import edge\n"
        f"edge.run(lambda: os._exit(open({str(tmp_path / 'precious')!r}, 'w').fileno()))"
    )
    done = subprocess.run(
        after("import os\nos.closerange(0, 3)", [sys.executable, "-c", script]), check=False
    )
    assert done.returncode > 2


# --- time ------------------------------------------------------------------------------------


def at(moment: datetime, monkeypatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None) -> datetime:
            return moment

    monkeypatch.setattr(ledgers, "datetime", Clock)


@pytest.mark.parametrize("ahead", [timedelta(days=400), timedelta(days=-400)])
def test_a_clock_that_was_wrong_and_was_put_right_does_not_stop_a_site(
    ahead, tmp_path, monkeypatch
):
    now = datetime.now(UTC)
    ledger = SiteLedger(tmp_path / "state" / "privacy.jsonl", Heads(tmp_path / "heads"))
    at(now + ahead, monkeypatch)
    for _ in range(3):
        ledger.note(frozenset({"a"}), PlainRelease("weights"))
    assert ledger.releases_within(DAY) == 3
    at(now, monkeypatch)
    assert ledger.releases_within(DAY) == 0
    assert len(ledger.read().entries) == 3  # what left stays written down


def test_an_hour_of_a_clock_that_runs_ahead_is_no_way_around_a_days_limit(tmp_path, monkeypatch):
    now = datetime.now(UTC)
    ledger = SiteLedger(tmp_path / "state" / "privacy.jsonl", Heads(tmp_path / "heads"))
    at(now + timedelta(hours=1), monkeypatch)
    ledger.note(frozenset({"a"}), PlainRelease("weights"))
    at(now, monkeypatch)
    assert ledger.releases_within(DAY) == 1


def test_the_limit_of_a_day_holds_in_the_words_of_the_site(tmp_path):
    ledger = SiteLedger(tmp_path / "state" / "privacy.jsonl", Heads(tmp_path / "heads"))
    ledger.note(frozenset({"a"}), PlainRelease("weights"))
    limits = SiteLimits(max_releases_a_day=1)
    with pytest.raises(LimitsExceeded, match="max_releases_a_day: 1 are reached"):
        limits._check_day(ledger)
