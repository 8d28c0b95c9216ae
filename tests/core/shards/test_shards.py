"""The shard format: round trips, views without copies, and damage that is noticed."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facemorph_core.alignment.frame import framing
from facemorph_core.errors import OutputError, ShardError
from facemorph_core.shards.shard import IndexRow, Shard, write_shard, write_view
from facemorph_core.shards.summary import draw_summary, summarise, summary_table
from tests.core.faces import small_shard

ATTRIBUTES = {"anna": {"Male": -1, "Smiling": 1}, "ben": {"Male": 1}}


@pytest.fixture
def shard(tmp_path):
    people = {"anna": 3, "ben, the 2nd": 2, "ben": 1}
    return small_shard(tmp_path / "base", people, held_out={"cleo": 2}, attributes=ATTRIBUTES)


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    landmarks = rng.normal(64, 20, (4, 68, 2))
    rows = [IndexRow(f"p{n}", split) for n, split in enumerate(["train", "val", "test", "train"])]
    skipped = [{"photo": "a/b.jpg", "reason": "is a folder, not a photo"}]
    written = write_shard(tmp_path / "s", faces, landmarks, rows, skipped=skipped)
    for shard in (written, Shard.open(tmp_path / "s"), pickle.loads(pickle.dumps(written))):
        np.testing.assert_array_equal(shard.images([2, 0, 2]), faces[[2, 0, 2]])
        np.testing.assert_allclose(shard.landmarks([3]), landmarks[[3]].astype(np.float32))
        assert shard.people == ["p0", "p1", "p2", "p3"]
        assert shard.rows("train").tolist() == [0, 3]
        assert shard.skipped == skipped
        assert shard.framing == framing()
        assert (len(shard), shard.size) == (4, 128)
    assert written.digest() == Shard.open(tmp_path / "s").digest()


def test_attributes_are_minus_one_one_or_unknown(shard):
    assert shard.attributes["Male"].tolist() == [-1, -1, -1, 0, 0, 1, 0, 0]
    assert shard.attributes["Smiling"].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert shard.attributes["Male"].dtype == np.int8


def test_pixels_stay_on_disk_and_what_is_given_out_is_a_copy(shard):
    assert isinstance(shard._faces.base, np.memmap)
    images = shard.images([0])
    images[:] = 0
    assert type(images) is np.ndarray
    assert shard.images([0]).any()


def test_the_files_are_those_of_the_design(shard):
    faces = np.load(shard.path / "faces.npy", allow_pickle=False)
    landmarks = np.load(shard.path / "landmarks.npy", allow_pickle=False)
    assert (faces.shape, faces.dtype) == ((8, 128, 128, 3), np.uint8)
    assert (landmarks.shape, landmarks.dtype) == ((8, 68, 2), np.float32)
    with (shard.path / "index.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["row", "digest", "person", "split", "Male", "Smiling"]
    manifest = json.loads((shard.path / "shard.json").read_text())
    assert manifest["format_version"] == 1
    assert manifest["counts"]["people"] == 4


def test_an_unknown_split_is_named(shard):
    with pytest.raises(ShardError, match="no split 'vall': a shard has train, val, test"):
        shard.rows("vall")
    faces, landmarks = np.zeros((1, 128, 128, 3), np.uint8), np.zeros((1, 68, 2))
    with pytest.raises(ValueError, match="unknown splits"):
        write_shard(shard.path.parent / "bad", faces, landmarks, [IndexRow("p", "vall")])
    assert not (shard.path.parent / "bad").exists()


def test_an_existing_shard_is_never_overwritten(shard):
    with pytest.raises(OutputError, match="exists already"):
        small_shard(shard.path, {"x": 1})
    assert len(Shard.open(shard.path)) == 8


def test_nothing_is_left_of_a_shard_that_could_not_be_written(tmp_path):
    with pytest.raises(ValueError, match="2 faces, 1 landmarks"):
        write_shard(tmp_path / "s", np.zeros((2, 8, 8, 3), np.uint8), np.zeros((1, 68, 2)), [])
    assert list(tmp_path.iterdir()) == []


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("faces.npy", lambda b: b[:-1], "cut short"),
        ("faces.npy", lambda b: b"", "cut short"),
        ("faces.npy", lambda b: b.replace(b"|u1", b"|i1"), "int8"),
        ("landmarks.npy", lambda b: b[:-1] + b"?", "does not have the recorded hash"),
        ("index.csv", lambda b: b.replace(b"anna", b"anne"), "index.csv does not have"),
        ("shard.json", lambda b: b[: len(b) // 2], "shard.json cannot be read"),
        ("shard.json", lambda b: b"[]", "shard.json cannot be read"),
        ("shard.json", lambda b: b.replace(b'"skipped"', b'"skept"'), "shard.json lacks skipped"),
        ("shard.json", lambda b: b.replace(b'version": 1', b'version": 7'), "shard format 7"),
    ],
)
def test_damage_is_noticed_when_opening(shard, name, damage, message):
    file = shard.path / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ShardError, match=message) as caught:
        Shard.open(shard.path)
    assert "again" in caught.value.hint


@pytest.mark.parametrize("name", ["faces.npy", "landmarks.npy", "index.csv"])
def test_a_missing_file_is_named(shard, name):
    (shard.path / name).unlink()
    with pytest.raises(ShardError, match=rf"{name} is missing"):
        Shard.open(shard.path)


def test_a_changed_pixel_is_noticed_when_asked(shard):
    shard.verify_pixels()
    with (shard.path / "faces.npy").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    with pytest.raises(ShardError, match=r"faces\.npy does not have the recorded hash"):
        Shard.open(shard.path).verify_pixels()


def test_what_is_not_a_shard_says_how_to_make_one(tmp_path):
    with pytest.raises(ShardError, match="not a shard") as caught:
        Shard.open(tmp_path / "nothing")
    assert "facemorph-core prepare" in caught.value.hint
    (tmp_path / "nothing.partial").mkdir()
    with pytest.raises(ShardError) as caught:
        Shard.open(tmp_path / "nothing")
    assert "interrupted" in caught.value.hint


# --- views -----------------------------------------------------------------------------------


def test_a_view_is_an_ordinary_shard_without_pixels_of_its_own(shard, tmp_path):
    view = write_view(shard, [6, 1, 3], tmp_path / "view", splits={1: "val", 6: "train"})
    for seen in (view, Shard.open(tmp_path / "view"), pickle.loads(pickle.dumps(view))):
        np.testing.assert_array_equal(seen.images([0, 1, 2]), shard.images([6, 1, 3]))
        np.testing.assert_array_equal(seen.landmarks([1]), shard.landmarks([1]))
        assert seen.people == ["cleo", "anna", "ben, the 2nd"]
        assert seen.splits.tolist() == ["train", "val", "train"]
        assert seen.attributes["Male"].tolist() == [0, -1, 0]
        assert seen.is_view
        assert seen.skipped == []
    assert not shard.is_view
    assert sum(file.stat().st_size for file in view.path.iterdir()) < 20_000


def test_a_view_of_a_view_looks_at_the_same_pixels(shard, tmp_path):
    view = write_view(shard, [5, 2, 7], tmp_path / "view")
    inner = write_view(view, [2, 0], tmp_path / "inner")
    np.testing.assert_array_equal(inner.images([0, 1]), shard.images([7, 5]))
    assert inner.faces_file == shard.faces_file


def test_an_empty_view_opens(shard, tmp_path):
    view = write_view(shard, [], tmp_path / "view")
    assert len(view) == 0
    assert view.images([]).shape == (0, 128, 128, 3)
    assert view.landmarks([]).shape == (0, 68, 2)


def test_a_view_notices_that_its_base_was_moved_or_replaced(shard, tmp_path):
    write_view(shard, [0], tmp_path / "view")
    shard.path.rename(tmp_path / "elsewhere")
    with pytest.raises(ShardError, match="no longer there"):
        Shard.open(tmp_path / "view")
    small_shard(shard.path, {"x": 8}, seed=5)
    with pytest.raises(ShardError, match="has changed since"):
        Shard.open(tmp_path / "view")


# --- summary ---------------------------------------------------------------------------------


def test_a_summary_counts_photos_people_and_shares(shard):
    (summary,) = summarise([shard])
    assert (summary.photos, summary.people, summary.train, summary.val) == (8, 4, 6, 2)
    assert summary.attributes == {"Male": 0.25, "Smiling": 1.0}
    header, rows = summary_table([summary], attributes=["Male"])
    assert header[-1] == "Male"
    assert rows == [["base", "8", "4", "6", "2", "25%"]]


def test_the_picture_has_a_line_per_site(shard, tmp_path):
    empty = write_view(shard, [], tmp_path / "empty")
    one = draw_summary([shard])
    three = draw_summary([shard, empty, shard], attribute="Male")
    assert three.height > one.height
    assert len(set(np.asarray(three).reshape(-1, 3)[::7].sum(axis=1).tolist())) > 20
    assert draw_summary([shard] * 40).height == draw_summary([shard] * 24).height
    assert draw_summary([shard], faces_per_site=0).width < one.width
    assert draw_summary([]).width > 0


def test_reading_a_shard_loads_neither_opencv_nor_dlib_nor_torch(shard):
    """A training process opens shards; it should not pay for finding faces."""
    script = (
        "import sys\nfrom facemorph_core.shards import Shard\n"
        "Shard.open(sys.argv[1]).images([0])\n"
        "print(sorted({'cv2', 'dlib', 'torch'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(shard.path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == "[]"
