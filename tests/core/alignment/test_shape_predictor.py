"""Our reading of dlib's landmark file against dlib itself."""

from __future__ import annotations

import logging
import shutil
import struct
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import dlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.alignment import dlib_files
from facemorph_core.alignment.dlib_files import landmark_weights
from facemorph_core.alignment.landmarks import DlibDetector
from facemorph_core.alignment.photo import load_photo
from facemorph_core.alignment.shape_predictor import Forest, predict, unpack
from facemorph_core.errors import WeightsUnavailable
from tests.core.faces import GRACE_HOPPER, astronaut, orl_photo
from tests.damage import KINDS, damage


@cache
def forest() -> Forest:
    return dlib_files.forest()


@pytest.fixture(autouse=True)
def real_one() -> None:
    """Read before a test puts something in its place."""
    forest()


@cache
def peer() -> Any:
    return dlib.shape_predictor(str(landmark_weights()))


def pictures() -> list[np.ndarray]:
    return [load_photo(GRACE_HOPPER), astronaut(), load_photo(orl_photo(2, 4))]


@given(
    which=st.integers(0, 2),
    left=st.integers(-50, 400),
    top=st.integers(-50, 400),
    side=st.integers(20, 400),
    high=st.integers(-10, 10),
)
@settings(max_examples=60, deadline=None)
def test_the_points_are_those_of_dlib(
    which: int, left: int, top: int, side: int, high: int
) -> None:
    """In any box, on a face or not, inside the picture or over its edge."""
    image = pictures()[which]
    right, bottom = left + side, top + side + high
    parts = peer()(image, dlib.rectangle(left, top, right, bottom)).parts()
    found = predict(image, (left, top, right, bottom), forest())
    np.testing.assert_array_equal(found, [(part.x, part.y) for part in parts])


def packed(value: int) -> bytes:
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (128 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def test_a_file_of_another_version_or_cut_short_is_damaged() -> None:
    whole = landmark_weights().read_bytes()
    with pytest.raises(ValueError, match="version 1"):
        unpack(packed(2) + whole[2:])
    with pytest.raises(ValueError, match="damaged"):
        unpack(whole[: len(whole) // 3])


def test_it_is_unpacked_once_and_again_where_the_cache_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = []
    monkeypatch.setattr(dlib_files, "unpack", lambda data: times.append(1) or forest())
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path))
    for _ in range(2):
        found = dlib_files.forest.__wrapped__()
        np.testing.assert_array_equal(found.thresholds, forest().thresholds)
    assert len(times) == 1
    [kept] = (tmp_path / "landmarks").glob("forest-*")
    (kept / "leaves.npy").write_bytes((kept / "leaves.npy").read_bytes()[:1000])
    dlib_files.forest.__wrapped__()
    dlib_files.forest.__wrapped__()
    assert len(times) == 2


@pytest.fixture
def kept_forest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the first level alone, to be quick."""
    whole = forest()
    levels = {f.name: getattr(whole, f.name)[:1] for f in fields(whole) if f.name != "start"}
    monkeypatch.setattr(dlib_files, "unpack", lambda data: replace(whole, **levels))
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path))
    dlib_files.forest.__wrapped__()
    [kept] = (tmp_path / "landmarks").glob("forest-*")
    return kept


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", [*(f"{field.name}.npy" for field in fields(Forest)), "checksums.json"]
)
def test_a_damaged_table_is_noticed_said_and_made_again(
    name: str, kind: str, kept_forest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = {file.name: file.read_bytes() for file in kept_forest.iterdir()}
    damage(kept_forest / name, kind)
    with pytest.raises((ValueError, OSError)):
        Forest.load(kept_forest)
    with caplog.at_level(logging.WARNING):
        dlib_files.forest.__wrapped__()
    assert len(caplog.messages) == 1
    assert f"landmark table {kept_forest} is damaged" in caplog.text
    assert {file.name: file.read_bytes() for file in kept_forest.iterdir()} == whole


@pytest.mark.parametrize("gone", ["checksums.json", "leaves.npy", ""])
def test_a_table_that_lacks_a_file_is_made_again(gone: str, kept_forest: Path) -> None:
    """As one that an earlier version kept, which had no checksums."""
    (kept_forest / gone).unlink() if gone else shutil.rmtree(kept_forest)
    dlib_files.forest.__wrapped__()
    assert Forest.load(kept_forest).leaves.shape[0] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_detector_is_noticed_said_and_made_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path))
    dlib_files.detector.__wrapped__()
    [file] = (tmp_path / "landmarks").iterdir()
    whole = file.read_bytes()
    damage(file, kind)
    with caplog.at_level(logging.WARNING):
        dlib_files.detector.__wrapped__()
    assert [f"{file} is damaged" in said for said in caplog.messages] == [True]
    assert file.read_bytes() == whole


def test_a_table_is_not_made_of_a_damaged_weight_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the right length: one flipped bit would stay in the table, under checksums that hold."""
    broken = tmp_path / "broken.dat"
    shutil.copy(landmark_weights(), broken)
    damage(broken, "a bit in the middle")
    monkeypatch.setattr(dlib_files, "landmark_weights", lambda: broken)
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path))
    with pytest.raises(WeightsUnavailable, match=r"broken\.dat is not the landmark file"):
        dlib_files.forest.__wrapped__()
    assert list((tmp_path / "landmarks").glob("*")) == []


def test_the_kept_detector_finds_what_the_one_in_dlib_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path))
    dlib_files.detector.__wrapped__()
    [file] = (tmp_path / "landmarks").iterdir()
    written = file.stat().st_mtime_ns
    kept, own = dlib_files.detector.__wrapped__(), dlib.get_frontal_face_detector()
    assert file.stat().st_mtime_ns == written
    for picture in pictures():
        found, expected = (each.run(picture, 1, -0.5) for each in (kept, own))
        assert len(expected[0]) > 0
        assert [str(box) for box in found[0]] == [str(box) for box in expected[0]]
        assert list(found[1]) == list(expected[1])
        assert list(found[2]) == list(expected[2])
    file.write_bytes(b"damaged")
    dlib_files.detector.__wrapped__()
    assert file.stat().st_size > 100_000


def test_without_a_cache_it_works_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlib_files, "unpack", lambda data: forest())
    (tmp_path / "file").touch()
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "file" / "cache"))
    assert dlib_files.forest.__wrapped__().leaves.shape[-1] == 136


def test_a_damaged_weight_file_says_how_to_get_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.dat"
    broken.write_bytes(struct.pack("<q", 7) * 100)
    monkeypatch.setattr(dlib_files, "landmark_weights", lambda: broken)
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path))
    dlib_files.forest.cache_clear()
    try:
        with pytest.raises(WeightsUnavailable, match=r"broken\.dat is not the landmark file"):
            DlibDetector().detect(load_photo(GRACE_HOPPER))
    finally:
        dlib_files.forest.cache_clear()
