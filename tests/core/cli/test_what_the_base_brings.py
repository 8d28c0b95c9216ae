"""`pip install` without any extra makes a morph; whatever needs more says which in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from facemorph_core.alignment import dlib_files
from tests.core.faces import GRACE_HOPPER, astronaut

WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    missing = {"face_recognition_models", "grpc", "imageio_ffmpeg", "onnx", "torch", "flwr"}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.missing else super().find_spec(name, path)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
from facemorph_core.cli.main import main
main()
"""


def base(words: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """The command where none of the extras is installed, nor ffmpeg."""
    environment = {**os.environ, "FACEMORPH_CACHE": str(folder / "cache"), "PATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two, in a place whose cache holds the landmark weights as fetching leaves them."""
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    dlib_files.forest.__wrapped__()
    Image.fromarray(astronaut()).save(tmp_path / "eileen.png")
    return tmp_path / "eileen.png", GRACE_HOPPER


def test_it_makes_a_morph(photos: tuple[Path, Path], tmp_path: Path) -> None:
    made = base(["morph", *photos, "-o", "morph.gif", "--steps", "3"], tmp_path)
    assert made.returncode == 0, made.stderr
    with Image.open(tmp_path / "morph.gif") as picture:
        assert picture.n_frames == 3


def test_it_verifies_a_model(tmp_path: Path) -> None:
    made = base(["inspect", "starter", "--check"], tmp_path)
    assert "reproduces its test vector" in made.stdout, made.stderr


def test_a_video_without_ffmpeg_names_the_ways_to_one(
    photos: tuple[Path, Path], tmp_path: Path
) -> None:
    made = base(["morph", *photos, "-o", "morph.mp4", "--steps", "3"], tmp_path)
    assert made.returncode == 12
    assert "facemorph-core[video]" in made.stderr
    assert not (tmp_path / "morph.mp4").exists()


def test_a_video_is_made_with_the_ffmpeg_of_the_machine(
    photos: tuple[Path, Path], tmp_path: Path
) -> None:
    import imageio_ffmpeg

    (tmp_path / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    made = base(["morph", *photos, "-o", "morph.mp4", "--steps", "3"], tmp_path)
    assert made.returncode == 0, made.stderr
    assert b"ftyp" in (tmp_path / "morph.mp4").read_bytes()[:16]


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["export"], "export"),
        (["bench"], "export"),
        (["hub", "list", "hub://models.example.org:1"], "hub"),
        (["inspect", "hub://models.example.org:1/faces@latest"], "hub"),
    ],
    ids=str,
)
def test_what_needs_more_names_the_extra(words: list[str], extra: str, tmp_path: Path) -> None:
    made = base(words, tmp_path)
    assert made.returncode == 3, made.stderr
    assert f'pip install "facemorph-core[{extra}]"' in made.stderr


def test_without_landmark_weights_the_command_that_fetches_them_is_named(tmp_path: Path) -> None:
    made = base(["morph", GRACE_HOPPER, GRACE_HOPPER], tmp_path)
    assert made.returncode == 10
    assert "facemorph-core weights fetch landmarks" in made.stderr
