"""What shows or remembers faces is its owner's alone while it is written and after."""

from __future__ import annotations

import os
import stat

import numpy as np
import pytest

from facemorph_core.config.schema import ByPersonPartition, DataConfig
from facemorph_core.disk.cache import cache_dir
from facemorph_core.disk.output import written_whole
from facemorph_core.disk.private import opened_privately, private_folder
from facemorph_core.errors import OutputError
from facemorph_core.shards import partial
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.partition import site_view
from facemorph_core.shards.prepare import prepare_shard
from tests.core.faces import folder_of_orl, small_shard
from tests.core.systems import on_posix
from tests.modes import lax_in

pytestmark = on_posix


@pytest.fixture(autouse=True)
def lax_umask():
    """Whatever is created with the usual mode can be read and written by everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_shard_is_private_from_the_first_byte_to_the_last(tmp_path, monkeypatch):
    photos, work = folder_of_orl(tmp_path / "photos", people=2, photos=1), tmp_path / "srv"
    looked = []

    def looking(descriptor: int) -> None:
        looked.append(lax_in(work))

    monkeypatch.setattr(os, "fsync", looking)
    monkeypatch.setattr(partial.PartialShard, "discard", lambda self: looking(0))
    prepare_shard("folder", photos, work / "faces" / "shard", workers=1)
    assert len(looked) >= 8
    assert looked == [[]] * len(looked)
    assert lax_in(work) == []
    assert lax_in(tmp_path) != []  # the photos themselves are their owner's affair


def test_the_cache_of_shards_and_its_views_are_private(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    photos = folder_of_orl(tmp_path / "photos", people=2, photos=2)
    data = DataConfig(source="folder", path=str(photos), partition=ByPersonPartition())
    site_view(shard_for(data, seed=0), data, site=0, sites=1, seed=0)
    for folder in ("shards", "views"):
        assert lax_in(cache_dir() / folder) == []


def test_faces_that_are_in_memory_become_a_private_shard(tmp_path):
    small_shard(tmp_path / "new" / "shard", ["a"])
    assert lax_in(tmp_path / "new") == []


def test_modes_that_were_chosen_are_kept(tmp_path):
    chosen = tmp_path / "chosen"
    chosen.mkdir(mode=0o750)
    private_folder(chosen / "a" / "b")
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o750
    assert lax_in(chosen / "a") == []
    (chosen / "log").touch(mode=0o640)
    with opened_privately(chosen / "log", "ab") as file:
        file.write(b"more")
    assert stat.S_IMODE((chosen / "log").stat().st_mode) == 0o640


def test_a_private_file_takes_the_place_of_one_that_all_could_read(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    with written_whole(path, force=True, private=True) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        np.save(temporary.open("wb"), np.zeros(3))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_private_file_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(OutputError), written_whole(tmp_path / "x", private=True):
        raise OSError(28, "full")
    assert list(tmp_path.iterdir()) == []
