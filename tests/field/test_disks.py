"""Disks that are not ours: shares of Windows machines, no locks, folders that grow.

Public reports:
    | borg 1287, python-atomicwrites 27, RocksDB 2929: syncing a folder fails on a CIFS mount
    | filelock 67 and 77: a lock is waited for without an end where the file system has none
    | FATE 648, FLIP 1050: what sites keep of every run fills their disk
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat

import pytest
from flwr.app import Context, RecordDict

from client.app import app as client_app
from facemorph_core.config.schema import DataConfig
from facemorph_core.disk.output import locked, sync_folder
from facemorph_core.disk.records import read_metrics
from facemorph_core.disk.run_folder import held_alone
from facemorph_core.errors import FaceMorphError, LedgerError, OutputError
from facemorph_core.learning.privacy import GaussianSteps, Heads, SiteLedger
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.partial import PartialShard
from server.app import app as server_app
from server.hub.catalogue import publish
from tests.federation.local_grid import LocalGrid, site_settings, tiny_shard, write_config

PHOTOS = frozenset({"a", "b"})
EVENT = GaussianSteps(1.0, 0.1, 10)


@pytest.fixture
def ledger(tmp_path):
    return SiteLedger(tmp_path / "state" / "privacy.jsonl", Heads(tmp_path / "heads"))


def folders_refuse(code: int, monkeypatch) -> None:
    """From now on folders cannot be synced; files can."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_site_on_a_share_that_syncs_no_folders_keeps_its_ledger(code, ledger, monkeypatch):
    folders_refuse(code, monkeypatch)
    spent = [ledger.charge(PHOTOS, EVENT, delta=1e-5, limit=50.0) for _ in range(2)]
    assert [entry.event for entry in ledger.read().entries] == [EVENT, EVENT]
    assert spent[0] != spent[1]


def test_a_disk_that_fails_is_still_told(tmp_path, ledger, monkeypatch):
    folders_refuse(errno.EIO, monkeypatch)
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)
    with pytest.raises(LedgerError, match="nothing is released"):
        ledger.charge(PHOTOS, EVENT, delta=1e-5, limit=50.0)


@pytest.mark.timeout(300)  # a wait without an end is what this is about
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_sentence_and_not_a_wait(
    code, ledger, tmp_path, monkeypatch
):
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    words = os.strerror(code)
    with pytest.raises(OutputError, match=words) as told, locked(tmp_path / "x.lock"):
        pass
    assert "a disk of this machine" in told.value.hint
    with pytest.raises(LedgerError, match=words):
        ledger.charge(PHOTOS, EVENT, delta=1e-5, limit=50.0)
    with pytest.raises(FaceMorphError, match=words):
        shard_for(DataConfig(source="orl", limit=2), seed=0)
    with (
        pytest.raises(OutputError, match=words),
        PartialShard.locked(tmp_path / "faces", "plan"),
    ):
        pass
    with pytest.raises(OutputError, match=words), held_alone(tmp_path, other="run", hint=""):
        pass
    (tmp_path / "any.facemorph").touch()
    with pytest.raises(OutputError, match=words):
        publish(tmp_path / "any.facemorph", tmp_path / "models", "faces")


def test_what_a_run_left_at_a_site_may_go_and_the_ledger_stays(tmp_path, monkeypatch):
    """A folder for each run lies beside the ledger; only that run needs it."""
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    for number in (1, 2):
        tiny_shard(tmp_path / f"shard-{number}", seed=number)
    kept = []
    for name in ("first", "second"):
        config = write_config(
            tmp_path / "tiny.yaml", name=name, federation={"codec": "int8", "sites": 2, "rounds": 1}
        )
        run_config = {"config": str(config), "overrides": "", "run-dir": str(tmp_path / name)}
        sites = {n: site_settings(tmp_path, n) for n in (1, 2)}
        grid = LocalGrid(dict.fromkeys(sites, client_app), sites, run_config)
        server_app(grid, Context(1, 0, {}, RecordDict(), run_config))
        state = tmp_path / "shard-1.state"
        (of_this_run,) = [path for path in state.iterdir() if list(path.glob("lost-*"))]
        kept.append(len((state / "privacy.jsonl").read_bytes()))
        shutil.rmtree(of_this_run)
    assert kept[1] > kept[0]
    assert read_metrics(tmp_path / "second")[1]["used"] == ["clinic-1", "clinic-2"]
