"""The commands around `morph`: average, grid, batch, completion, the report of one morph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import facemorph_core
from facemorph_core.alignment import align_photo
from facemorph_core.cli.main import main
from facemorph_core.errors import OutputError
from facemorph_core.morphing.blend import GAP, corner_weights
from facemorph_core.morphing.engine import Morpher
from facemorph_core.pictures.encoders import write_picture
from tests.core.faces import GRACE_HOPPER, astronaut, orl_photo

PEOPLE = [orl_photo(person, 1) for person in (3, 4, 5, 6)]


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    eileen = tmp_path / "eileen.png"
    Image.fromarray(astronaut()).save(eileen)
    grace = tmp_path / "grace.jpg"
    grace.write_bytes(GRACE_HOPPER.read_bytes())
    return eileen, grace


def ran(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    said = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, said.out, said.err


def pixels(path: Path) -> NDArray[np.int64]:
    return np.asarray(Image.open(path), np.int64)


# --- doubts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["morph", "average", "grid"])
def test_what_is_doubtful_is_said_beside_the_result(
    command: str, photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = tmp_path / "turned.png"
    Image.open(photos[1]).rotate(90, expand=True).save(turned)
    given = [photos[0], turned, *([photos[0]] * 2 if command == "grid" else [])]
    options = ["--mode", "landmark", "--size", "64", "-o", tmp_path / "out.png", "--json"]
    code, out, err = ran(capsys, command, *given, *options)
    assert code == 0, err
    (warning,) = json.loads(out)["warnings"]
    assert warning["photo"] == str(turned)
    assert "turned by 9" in warning["doubt"]
    assert f"warning: {turned}: the face is turned by 9" in err
    code, out, _ = ran(capsys, "average", photos[0], photos[0], *options, "--force")
    assert json.loads(out)["warnings"] == []


# --- average -----------------------------------------------------------------------------------


def test_an_average_is_the_middle_of_a_morph(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ran(capsys, "average", *photos, "-o", tmp_path / "m.png", "--json")
    assert code == 0, err
    assert json.loads(out)["weights"] == [0.5, 0.5]
    middle = facemorph_core.morph(*photos, steps=3).frames[1]
    assert np.abs(pixels(tmp_path / "m.png") - middle).max() <= 1


def test_weights_are_shares(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eileen, grace = photos
    code, out, err = ran(capsys, "average", f"{eileen}=3", grace, "-o", tmp_path / "m.webp")
    assert code == 0, err
    assert "75% eileen.png, 25% grace.jpg" in out
    huge = facemorph_core.average([eileen, grace], [1.5e308, 5e307])
    np.testing.assert_allclose(huge.weights, [[0.75, 0.25]])
    own = facemorph_core.average([eileen, grace], [6, 2])
    np.testing.assert_allclose(own.weights, [[0.75, 0.25]])
    assert np.abs(pixels(tmp_path / "m.webp") - own.frames[0]).mean() < 3  # lossy


def test_a_name_with_an_equals_sign_is_a_name(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = photos[0].rename(tmp_path / "a=2")
    code, out, err = ran(capsys, "average", odd, photos[1], "-o", tmp_path / "m.jpg")
    assert code == 0, err
    assert "50% a=2" in out


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "much"])
def test_a_weight_that_means_nothing_is_named(
    weight: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ran(capsys, "average", f"a.jpg={weight}", "b.jpg", "-o", tmp_path / "m.png")
    assert (code, out) == (2, "")
    assert f"'{weight}' behind its '=' no weight" in err


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_picture_says_what_it_was_made_of(
    photos: tuple[Path, Path], tmp_path: Path, suffix: str
) -> None:
    made = facemorph_core.average(photos, [3, 1])
    said = tmp_path / f"said.{suffix}"
    made.save(said)
    packet = Image.open(said).info["xmp"]
    text = packet if isinstance(packet, str) else packet.decode()
    assert 'morph:Weights="0.75 0.25"' in text
    assert "compositeWithTrainedAlgorithmicMedia" in text
    silent = tmp_path / f"silent.{suffix}"
    made.save(silent, provenance=False)
    assert b"facemorph" not in silent.read_bytes()


# --- grid --------------------------------------------------------------------------------------


@given(side=st.integers(2, 15))
def test_a_grid_is_bilinear(side: int) -> None:
    weights = corner_weights(side).reshape(side, side, 4)
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    np.testing.assert_array_equal(weights[[0, 0, -1, -1], [0, -1, 0, -1]], np.eye(4))
    np.testing.assert_allclose(np.diff(weights, 2, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(weights, 2, axis=1), 0, atol=1e-12)


def test_the_corners_of_a_grid_are_the_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "g.png"
    code, said, err = ran(capsys, "grid", *PEOPLE, "--side", 3, "--size", 128, "-o", out)
    assert code == 0, err
    assert "9 pictures" in said
    step = 128 + GAP
    assert pixels(out).shape == (3 * step - GAP, 3 * step - GAP, 3)
    detector = Morpher().detector
    for number, photo in enumerate(PEOPLE):
        down, across = divmod(number, 2)
        corner = pixels(out)[2 * step * down :, 2 * step * across :][:128, :128]
        own = align_photo(photo, detector, size=128, beyond="blurred")
        np.testing.assert_array_equal(corner, own.pixels)


def test_a_grid_is_between_four(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ran(capsys, "grid", *PEOPLE[:3], "-o", tmp_path / "g.png")
    assert code == 2
    assert "between four photos (got 3)" in err


# --- the detector ------------------------------------------------------------------------------


def test_a_detector_is_named(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.webp"
    words = ("--mode", "landmark", "--steps", 2, "--detector", "mediapipe", "-o", out)
    code, _, err = ran(capsys, "morph", *photos, *words)
    assert code == 0, err
    ours = facemorph_core.morph(*photos, steps=2, mode="landmark", detector="mediapipe")
    assert out.read_bytes() == ours.save(tmp_path / "same.webp")[0].read_bytes()
    dlibs = facemorph_core.morph(*photos, steps=2, mode="landmark")
    assert not np.array_equal(ours.frames, dlibs.frames)


@pytest.mark.parametrize("command", ["average", "grid"])
def test_whoever_finds_the_faces_a_picture_is_made(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = []
    for name in ("dlib", "mediapipe"):
        out = tmp_path / f"{name}.png"
        code, _, err = ran(capsys, command, *PEOPLE, "--detector", name, "--size", 64, "-o", out)
        assert code == 0, err
        pictures.append(pixels(out))
    assert 0 < np.abs(pictures[0] - pictures[1]).mean() < 12


# --- batch -------------------------------------------------------------------------------------


def table(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["a,b", *lines]) + "\n")
    return path


def batch(capsys: pytest.CaptureFixture[str], pairs: Path, *flags: object) -> tuple[int, Any, str]:
    out = pairs.parent / "out"
    code, said, err = ran(capsys, "batch", pairs, "-o", out, "--steps", 3, "--json", *flags)
    return code, json.loads(said) if said else None, err


def test_a_batch_makes_a_file_for_every_pair_and_only_once(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = table(tmp_path, "eileen.png,grace.jpg", "grace.jpg,eileen.png")
    code, report, err = batch(capsys, pairs, "--format", "webp")
    assert code == 0, err
    assert (report["pairs"], report["made"], report["failed"]) == (2, 2, [])
    out = tmp_path / "out"
    names = ["0001-eileen-grace.webp", "0002-grace-eileen.webp"]
    assert sorted(path.name for path in out.glob("*.webp")) == names
    first = (out / names[0]).read_bytes()
    alone = facemorph_core.morph(*photos, steps=3).save(tmp_path / "alone.webp")[0]
    assert first == alone.read_bytes()

    (out / names[1]).unlink()  # as if the process had been killed before it
    with (out / "made.jsonl").open("a") as log:
        log.write('{"a": "tor')
    for made in (1, 0):
        code, report, _ = batch(capsys, pairs, "--format", "webp")
        assert (code, report["made"]) == (0, made)
    assert (out / names[0]).read_bytes() == first


def test_a_photo_that_changed_is_morphed_again_and_one_that_moved_is_not(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch(capsys, table(tmp_path, "eileen.png,grace.jpg"))
    (tmp_path / "moved").mkdir()
    photos[0].rename(tmp_path / "moved" / "eileen.png")
    moved = table(tmp_path, "moved/eileen.png,grace.jpg")
    assert batch(capsys, moved)[1]["made"] == 0
    Image.open(PEOPLE[0]).save(photos[1])
    assert batch(capsys, moved)[1]["made"] == 1
    Image.new("RGB", (200, 200)).save(photos[1])  # nobody: the old morph is not of this
    assert batch(capsys, moved)[0] == 14
    assert list((tmp_path / "out").glob("*.gif")) == []


@pytest.mark.parametrize("stem", ["\u9854" * 80, "anna%20doe", "x" * 300])
def test_a_strange_name_stops_no_batch(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], stem: str
) -> None:
    if len(stem.encode()) < 255:
        photos[0].rename(tmp_path / f"{stem}.png")
    pairs = table(tmp_path, f"{stem}.png,grace.jpg", "grace.jpg,grace.jpg")
    code, report, err = batch(capsys, pairs, "--format", "png")
    there = int(len(stem.encode()) < 250)
    assert (code, report["made"]) == (0 if there else 14, 1 + there), err
    assert len(list((tmp_path / "out").glob("*.png"))) == 1 + there


def test_a_line_that_changed_is_made_again(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch(capsys, table(tmp_path, "eileen.png,grace.jpg"))
    before = (tmp_path / "out" / "0001-eileen-grace.gif").read_bytes()
    (tmp_path / "other").mkdir()
    Image.open(PEOPLE[0]).save(tmp_path / "other" / "grace.jpg")
    _, report, _ = batch(capsys, table(tmp_path, "eileen.png,other/grace.jpg"))
    assert report["made"] == 1
    assert (tmp_path / "out" / "0001-eileen-grace.gif").read_bytes() != before


def test_a_photo_without_a_face_stops_nothing(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (200, 200)).save(tmp_path / "black.png")
    pairs = table(tmp_path, "", "eileen.png,black.png", "eileen.png,grace.jpg")
    code, report, err = batch(capsys, pairs)
    assert code == 14
    assert report["failed"][0]["line"] == 3
    assert f"line 3, {tmp_path / 'black.png'}: no face found" in err
    assert report["made"] == 1
    assert [each["file"] for each in report["failed"]] == ["0001-eileen-black.gif"]
    assert "1 of 2 pairs could not be morphed" in err
    Image.open(GRACE_HOPPER).save(tmp_path / "black.png")  # mended
    code, report, err = batch(capsys, pairs)
    assert (code, report["made"], err) == (0, 1, "")


def test_a_batch_of_another_detector_is_refused(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = table(tmp_path, "eileen.png,grace.jpg")
    assert batch(capsys, pairs, "--detector", "mediapipe")[0] == 0
    code, _, err = batch(capsys, pairs)
    assert code != 0
    assert "detector" in err


def test_a_batch_of_other_settings_is_refused(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = table(tmp_path, "eileen.png,grace.jpg")
    batch(capsys, pairs)
    code, _, err = batch(capsys, pairs, "--mode", "landmark")
    assert code == 12
    assert "holds another batch: mode differ" in err
    (tmp_path / "out" / "batch.json").write_text("{")
    code, _, err = batch(capsys, pairs)
    assert code == 12
    assert "cannot be read" in err


def two_people(tmp_path: Path) -> Path:
    """A photo of Grace Hopper and, half as large, of Eileen Collins."""
    both = Image.new("RGB", (900, 700), (90, 90, 90))
    both.paste(Image.open(GRACE_HOPPER).resize((560, 660)), (0, 0))
    both.paste(Image.fromarray(astronaut()).crop((90, 0, 350, 260)), (600, 200))
    both.save(tmp_path / "two.png")
    return tmp_path / "two.png"


def test_a_line_may_say_which_face(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As --face does, which it overrides; saved as a spreadsheet does it in half of Europe."""
    two_people(tmp_path)
    pairs = tmp_path / "pairs.csv"
    lines = ["A;B;Face;Face B", "two.png;grace.jpg;2;1", "", "two.png;grace.jpg;;only"]
    pairs.write_bytes("\r\n".join([*lines, "two.png;two.png;;2", ";;;"]).encode("utf-16"))
    flags = ("--mode", "landmark", "--size", 64, "--format", "png")
    code, report, err = batch(capsys, pairs, *flags)
    assert (code, report["made"]) == (0, 3), err
    for name, faces in (
        ("0001-two-grace", (2, 1)),
        ("0002-two-grace", (1, 1)),
        ("0003-two-two", (1, 2)),
    ):
        ends = (
            tmp_path / "two.png",
            tmp_path / f"{name[9:]}.{'jpg' if name[-1] == 'e' else 'png'}",
        )
        own = facemorph_core.morph(*ends, steps=3, mode="landmark", size=64, face=faces)
        own.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(
            pixels(tmp_path / f"{name}.png"), pixels(tmp_path / "out" / f"{name}.png")
        )
    # the option is for what the table leaves open, and other faces make another morph
    code, report, err = batch(capsys, pairs, *flags, "--face", 2, "--face", 1)
    assert (code, report["made"]) == (0, 2), err
    code, report, err = batch(capsys, pairs, *flags, "--face", "only")
    assert (code, report["made"], len(report["failed"])) == (14, 0, 2), err
    assert "has 2 faces" in err


def test_a_face_that_is_none_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("a,b,face\n\nx.png,y.png,left\nx.png,,\n")
    code, report, err = batch(capsys, pairs)
    assert (code, report) == (14, None)
    assert "line 3: 'left' is neither a face number, 'largest' nor 'only'" in err
    assert "line 4: both a and b are needed" in err


def test_what_is_doubtful_in_a_batch_is_kept_and_told(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for each photo, also by a later run that makes nothing."""
    Image.open(photos[1]).rotate(90, expand=True).save(tmp_path / "turned.png")
    pairs = table(
        tmp_path, "eileen.png,turned.png", "turned.png,eileen.png", "grace.jpg,eileen.png"
    )
    flags = ("--mode", "landmark", "--size", 64)
    for made in (3, 0):
        code, report, err = batch(capsys, pairs, *flags)
        assert (code, report["made"]) == (0, made), err
        (warning,) = report["warnings"]
        assert warning["photo"] == str(tmp_path / "turned.png")
        assert err.count(f"warning: {tmp_path / 'turned.png'}: the face is turned by 9") == 1
    kept = [json.loads(line) for line in (tmp_path / "out/made.jsonl").read_text().splitlines()]
    assert [[len(each) for each in entry["doubts"]] for entry in kept] == [[0, 1], [1, 0], [0, 0]]
    assert kept[0]["doubts"][1][0] == warning["doubt"]


def test_a_pair_whose_doubts_nobody_wrote_down_is_made_again(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, flags = table(tmp_path, "eileen.png,grace.jpg"), ("--mode", "landmark", "--size", 64)
    batch(capsys, pairs, *flags)
    log = tmp_path / "out/made.jsonl"
    entry = json.loads(log.read_text())
    for doubts in (None, [], ["a", "b"], {}):
        log.write_text(json.dumps(entry | {"doubts": doubts}) + "\n")
        code, report, err = batch(capsys, pairs, *flags)
        assert (code, report["made"]) == (0, 1), err


def test_a_batch_of_videos_is_refused_at_once_without_ffmpeg(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere")
    pairs = table(tmp_path, "a.png,b.png")
    code, _, err = batch(capsys, pairs, "--format", "mov")
    assert code == 12
    assert "IMAGEIO_FFMPEG_EXE names /nowhere" in err
    assert list(tmp_path.iterdir()) == [pairs]


# --- outputs -----------------------------------------------------------------------------------


def test_every_format_of_one_command_comes_from_the_same_frames(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["m.gif", "m.webp", "m.apng", "m.avif"]
    sizes = ("--steps", 3, "--size", 50, "--boomerang", "--mode", "landmark")
    words = [word for name in names for word in ("-o", tmp_path / name)]
    code, said, err = ran(capsys, "morph", *photos, *sizes, *words, "--json")
    assert (code, err) == (0, "")
    report = json.loads(said)
    assert report["alphas"] == [0, 0.5, 1, 0.5]
    assert report["failed"] == []
    truth = facemorph_core.Morpher(mode="landmark", size=50)
    frames = truth.sequence(truth.faces(photos), steps=3).frames[[0, 1, 2, 1]]
    for name in names:
        with Image.open(tmp_path / name) as film:
            assert (film.n_frames, film.size) == (4, (50, 50))
            for number, own in enumerate(frames):
                film.seek(number)
                away = np.abs(np.asarray(film.convert("RGB"), np.int64) - own).mean()
                assert away == 0 if name == "m.apng" else away < 8


def test_one_frame_is_that_of_the_film(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--size", 60, "--mode", "landmark")
    code, said, err = ran(capsys, "morph", *photos, *sizes, "--at", 0.5)
    assert (code, err) == (0, "")
    alone = tmp_path / "eileen-grace-0.5.png"
    assert f"{alone}: the frame at 0.5 from eileen.png" in said
    film = facemorph_core.morph(*photos, steps=3, size=60, mode="landmark").frames
    np.testing.assert_array_equal(pixels(alone), film[1])
    assert 'morph:Alpha="0.5"' in str(Image.open(alone).info["xmp"])
    series = tmp_path / "at-%d.png"
    words = ("--at", 1, "--at", 0, "-o", series, "--sheet", tmp_path / "s.tif")
    code, _, err = ran(capsys, "morph", *photos, *sizes, *words)
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(pixels(tmp_path / "at-0.png"), film[2])
    np.testing.assert_array_equal(pixels(tmp_path / "at-1.png"), film[0])
    assert Image.open(tmp_path / "s.tif").size == (2 * 64 + 4, 60 + 16 + 8)


def test_the_old_name_of_a_sheet_works_and_says_the_new_one(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--steps", 3, "--size", 40)
    code, _, err = ran(capsys, "morph", *photos, *sizes, "-o", tmp_path / "old.png")
    assert code == 0
    assert f"old.png becomes a contact sheet; write --sheet {tmp_path}/old.png" in err
    code, _, err = ran(capsys, "morph", *photos, *sizes, "--sheet", tmp_path / "new.png")
    assert (code, err) == (0, "")
    assert (tmp_path / "new.png").read_bytes() == (tmp_path / "old.png").read_bytes()
    assert not (tmp_path / "eileen-grace.gif").exists()


def test_what_can_still_be_written_is_written(
    photos: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere")
    sizes = ("--steps", 2, "--size", 40, "--mode", "landmark")
    video, gif = tmp_path / "m.mp4", tmp_path / "m.gif"
    code, said, err = ran(capsys, "morph", *photos, *sizes, "-o", video, "-o", gif, "--json")
    assert code == 12
    assert "warning: IMAGEIO_FFMPEG_EXE names /nowhere, which does not work" in err
    assert "unset IMAGEIO_FFMPEG_EXE" in err
    assert json.loads(said)["written"] == [str(gif)]
    assert [each["output"] for each in json.loads(said)["failed"]] == [str(video)]
    gif.unlink()
    code, _, err = ran(capsys, "morph", *photos, *sizes, "-o", video)
    assert code == 12
    assert sorted(tmp_path.iterdir()) == sorted(photos)


# --- what people see ---------------------------------------------------------------------------


def test_a_morph_comes_with_a_report_of_all_modes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "how-good.html"
    made = tmp_path / "m.gif"
    words = ("morph", *PEOPLE[:2], "--steps", 3, "-o", made, "--report", page)
    code, _, err = ran(capsys, *words)
    assert code == 0, err
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 3
    assert f"{PEOPLE[0].name} to {PEOPLE[1].name}" in text
    assert "landmark error" in text
    code, _, err = ran(capsys, *words, "--force")
    assert code == 0, err
    made.unlink()
    code, _, err = ran(capsys, *words)
    assert code == 12
    assert "how-good.html exists already" in err
    assert not made.exists()


def test_a_film_strip_shows_all_modes_with_the_photos_at_their_ends(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, strip = tmp_path / "m.gif", tmp_path / "s.png"
    sizes = ("--steps", 3, "--size", 64)
    code, _, err = ran(capsys, "morph", *photos, *sizes, "-o", made, "--strip", strip)
    assert code == 0, err
    shown = pixels(strip)
    assert shown.shape[0] == 3 * 64 + 2 * 2
    margin = shown.shape[1] - 9 * 64 - 8 * 2
    first = align_photo(photos[0], Morpher().detector, size=64).pixels
    for mode, top in {"full": 0, "latent": 66, "landmark": 132}.items():
        away = np.abs(shown[top : top + 64, margin : margin + 64] - first).max()
        assert bool(away == 0) is (mode != "latent")
        assert shown[top : top + 64, :margin].min() < 128  # its name


def test_a_strip_and_a_report_of_a_transparent_photo(
    photos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.open(photos[0]).convert("RGBA").save(tmp_path / "clear.png")
    cut = np.array(Image.open(tmp_path / "clear.png"))
    cut[:, :40, 3] = 0
    Image.fromarray(cut).save(tmp_path / "clear.png")
    page, strip = tmp_path / "p.html", tmp_path / "s.jpg"
    words = ("--steps", 2, "--mode", "landmark", "--report", page, "--strip", strip, "--json")
    out = tmp_path / "m.webp"
    code, said, err = ran(capsys, "morph", tmp_path / "clear.png", photos[1], "-o", out, *words)
    assert code == 0, err
    assert json.loads(said)["written"] == [str(path) for path in (out, page, strip)]
    assert b"compositeWithTrainedAlgorithmicMedia" in strip.read_bytes()
    assert "MMPMR" not in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-o", "m.png", "--strip", "m.png"), 2, "'m.png' is asked for twice"),
        (("-o", "m.gif", "--report", "m.gif"), 2, "'m.gif' is asked for twice"),
        (("--report", "m.txt"), 2, "the report is a page, .html or .htm"),
        (("--strip", "m.gif"), 12, "none of .png, .jpg"),
        (("--sheet", "m.gif"), 12, "none of .png, .jpg"),
        (("--at", "0.5", "-o", "m.gif"), 12, "none of .png, .jpg"),
        (("--at", "0", "--at", "1", "-o", "m.png"), 12, "is one picture, and 2 frames"),
        (("--at", "0", "--at", "1"), 2, "several --at need -o"),
        (("--at", "1.01"), 2, "--at 1.01 lies beyond the photos: it ends at 1"),
        (("--at", "0.5", "--boomerang"), 2, "--boomerang is for films"),
        (("--size", "2000", "--steps", "90000", "-o", "m.apng"), 12, "of disk"),
    ],
)
def test_outputs_that_cannot_be_are_refused_at_the_door(
    photos: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = ran(capsys, "morph", *photos, *words)
    assert (found, said in err) == (code, True), err
    assert sorted(tmp_path.iterdir()) == sorted(photos)


@pytest.mark.parametrize("command", ["average", "grid", "morph"])
def test_a_folder_or_a_name_too_long_is_no_photo(
    photos: tuple[Path, Path], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for wrong in (".", "x" * 400):
        code, _, err = ran(capsys, command, wrong, *photos, photos[0])
        assert code == 4, err


def test_a_picture_larger_than_its_format_is_refused(tmp_path: Path) -> None:
    wide = Image.new("RGB", (20_000, 2))
    with pytest.raises(OutputError, match=r"20000x2 pixels is too large for \.webp"):
        write_picture(wide, tmp_path / "w.webp", None)
    write_picture(wide, tmp_path / "w.png", None)


PROGRAM = [sys.executable, "-c", "from facemorph_core.cli.main import main; main()"]


def completions(*words: str, kind: str = "plain") -> list[str]:
    """What Tab offers after these words; of the kind file, what the shell then completes."""
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    environment = os.environ | asked | {"_FACEMORPH_CORE_COMPLETE": "bash_complete"}
    found = subprocess.run(PROGRAM, env=environment, capture_output=True, text=True, check=True)
    lines = [line.partition(",") for line in found.stdout.splitlines()]
    return [text for offered, _, text in lines if offered == kind]


def test_tab_completes_commands_options_and_values() -> None:
    assert completions("facemorph-core", "mor") == ["morph"]
    assert "--shape-curve" in completions("facemorph-core", "morph", "--sh")
    assert completions("facemorph-core", "morph", "--mode", "la") == ["latent", "landmark"]
    for before in (["morph"], ["average"], ["morph", "-o"], ["train"]):
        assert completions("facemorph-core", *before, "ei", kind="file") == ["ei"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ran(capsys, "completion", shell)
    assert (code, err) == (0, "")
    assert "_FACEMORPH_CORE_COMPLETE=" in out
