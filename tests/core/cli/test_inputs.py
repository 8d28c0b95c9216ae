"""No command replaces what it reads, with --force neither: every file of the folder is watched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facemorph_core
from facemorph_core.bundle.find import find_model
from facemorph_core.cli.main import main
from facemorph_core.errors import OutputError
from facemorph_core.shards.shard import IndexRow, write_shard
from tests.core.faces import orl_photo

CANNOT_BE_WRITTEN = 12


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's only copies: photos, a table, a model, a shard."""
    names = ("a.png", "b.png", "frame-000.png", "c.png")
    for number, name in enumerate(names, start=3):
        Image.open(orl_photo(number, 1)).save(tmp_path / name)
    (tmp_path / "album").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "album" / name).write_bytes((tmp_path / name).read_bytes())
    (tmp_path / "album" / "link.png").symlink_to("../a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "page.html").symlink_to("b.png")
    (tmp_path / "my.facemorph").write_bytes(find_model("starter").read_bytes())
    faces, points = np.zeros((2, 128, 128, 3), np.uint8), np.zeros((2, 68, 2), np.float32)
    index = [IndexRow(digest=name * 64, person=name) for name in "ab"]
    write_shard(tmp_path / "shard", faces, points, index)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(place: Path) -> dict[str, bytes]:
    files = (file for file in place.rglob("*") if file.is_file())
    return {str(file.relative_to(place)): file.read_bytes() for file in files}


@pytest.mark.parametrize(
    "words",
    [
        "morph a.png b.png -o b.png --force",
        "morph a.png b.png -o a.png",
        "morph link.png b.png -o a.png --force",
        "morph a.png b.png -o ./album/../link.png --force",
        "morph frame-000.png b.png -o ./ --force",
        "morph frame-000.png b.png -o frame-%03d.png --force",
        "morph a.png b.png --strip a.png -o new.gif --force",
        "morph a.png b.png --report page.html -o new.gif --force",
        "average a.png=2 b.png -o a.png --force",
        "average album c.png -o album/a.png --force",
        "average album/*.png -o album/b.png --force",
        "average album=2 c.png -o link.png --force",
        "grid a.png b.png c.png frame-000.png -o c.png --force",
        "evaluate --shard shard --metrics psnr --per-image shard/shard.json --force",
        "evaluate --model my.facemorph --shard shard --metrics psnr --per-image my.facemorph "
        "--force",
    ],
)
def test_what_is_read_is_not_replaced(
    words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(place)
    with pytest.raises(SystemExit) as left:
        main(words.split())
    assert left.value.code == CANNOT_BE_WRITTEN, capsys.readouterr().err
    assert "is read here" in capsys.readouterr().err
    assert contents(place) == before


@pytest.mark.parametrize("out", [".", "..", "album", "sub/../album", "link-to-album"])
def test_a_shard_takes_no_place_where_its_photos_lie(
    out: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the folder is a shard already, which --force would replace as a whole."""
    (place / "sub").mkdir()
    (place / "link-to-album").symlink_to("album")
    for folder in (place, place / "album"):
        (folder / "shard.json").write_text("{}")
    before = contents(place)
    with pytest.raises(SystemExit) as left:
        main(["prepare", "album", "--source", "folder", "--out", out, "--force"])
    assert left.value.code == CANNOT_BE_WRITTEN
    assert "photos that are prepared lie in" in capsys.readouterr().err
    assert contents(place) == before


def test_nor_do_photos_lie_where_its_work_is_done(place: Path) -> None:
    """The folder of unfinished work is removed in the end."""
    (place / "album").rename(place / "shard.partial")
    before = contents(place)
    with pytest.raises(SystemExit) as left:
        main(["prepare", "shard.partial", "--source", "folder", "--out", "shard", "--force"])
    assert left.value.code == CANNOT_BE_WRITTEN
    assert contents(place) == before


def test_a_shard_may_lie_beside_the_photos_that_it_is_made_of(place: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["prepare", "album", "--source", "folder", "--out", "album/shard"])
    assert left.value.code == 0
    assert (place / "album/shard/shard.json").exists()


def test_a_morph_of_morphs_replaces_none_of_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table whose photos are what an earlier batch has made."""
    options = ["--mode", "landmark", "--steps", "2", "--size", "64", "--out", "made"]
    (place / "first.csv").write_text("a,b\na.png,b.png\n")
    with pytest.raises(SystemExit) as left:
        main(["batch", "first.csv", *options])
    assert left.value.code == 0
    capsys.readouterr()
    (place / "made/0001-a-b.gif").rename(place / "made/0001-x-b.gif")
    (place / "made/0001-0001-x-b-b.gif").symlink_to("0001-x-b.gif")
    (place / "second.csv").write_text("a,b\nmade/0001-x-b.gif,b.png\n")
    before = contents(place)
    with pytest.raises(SystemExit) as left:
        main(["batch", "second.csv", *options])
    assert left.value.code == CANNOT_BE_WRITTEN
    assert contents(place) == before


def test_from_python_neither(place: Path) -> None:
    before = contents(place)
    sequence = facemorph_core.morph("a.png", Image.open("b.png"), mode="landmark", steps=2, size=64)
    with pytest.raises(OutputError, match="is read here"):
        sequence.save("a.png", force=True)
    blend = facemorph_core.average(["a.png", "link.png"], mode="landmark", size=64)
    with pytest.raises(OutputError, match="is read here"):
        blend.save("link.png", force=True)
    assert contents(place) == before
