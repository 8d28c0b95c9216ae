"""`faces`: who is in a photo, by the numbers that --face takes; and saying it oneself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemorph_core.alignment.landmark_files import read_landmarks, write_landmarks
from facemorph_core.pictures.marked_faces import COLOURS, LONGEST
from tests.core.cli.test_morph import pixels, ran
from tests.core.faces import GRACE_HOPPER, astronaut

Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """Grace Hopper twice as large as Eileen Collins, side by side."""
    grace = Image.open(GRACE_HOPPER).convert("RGB")
    both = Image.new("RGB", (1400, 640), (120, 120, 120))
    both.paste(Image.fromarray(astronaut()[:260]), (20, 60))
    both.paste(grace.resize((768, 900)).crop((0, 0, 768, 640)), (600, 0))
    both.save(tmp_path / "group.png")
    return tmp_path / "group.png"


def test_faces_come_in_the_order_that_face_counts(
    group: Path, tmp_path: Path, capsys: Capsys
) -> None:
    boxes = tmp_path / "boxes.png"
    code, out, err = ran(capsys, "faces", group, "-o", boxes, "--json")
    assert code == 0, err
    first, second = json.loads(out)["faces"]
    assert (first["number"], second["number"]) == (1, 2)
    assert first["box"][0] > 600 > second["box"][2]
    assert first["eye_distance"] > second["eye_distance"]
    assert len(first["landmarks"]) == 68
    picture = pixels(boxes)
    assert picture.shape == (640, 1400, 3)
    for face, colour in zip((first, second), COLOURS, strict=False):
        left, top, _, bottom = face["box"]
        assert (picture[(top + bottom) // 2, left : left + 2] == colour).all()
        label = slice(top - 30, top), slice(left, left + 20)
        assert (picture[label] != pixels(group)[label]).any()
    for number, wanted in ((1, first), (2, second)):
        points = tmp_path / f"{number}.csv"
        assert ran(capsys, "faces", group, "--face", number, "-o", points)[0] == 0
        np.testing.assert_allclose(read_landmarks(points), wanted["landmarks"], atol=0.01)


def test_a_line_for_each_face_says_what_is_doubtful(tmp_path: Path, capsys: Capsys) -> None:
    cropped = tmp_path / "cropped.png"
    Image.open(GRACE_HOPPER).convert("RGB").crop((115, 80, 385, 350)).save(cropped)
    code, out, err = ran(capsys, "faces", cropped)
    assert code == 0, err
    header, line, doubt = out.splitlines()
    assert header.split()[:2] == ["face", "score"]
    assert line.split()[0] == "1"
    assert doubt.strip().startswith("the photo ends close to the face")


def test_a_huge_photo_is_drawn_as_large_as_one_looks_at(tmp_path: Path, capsys: Capsys) -> None:
    wall = Image.new("RGB", (4000, 3000), (150, 150, 150))
    wall.paste(Image.open(GRACE_HOPPER).convert("RGB").resize((600, 703)), (3000, 400))
    wall.save(tmp_path / "wall.jpg")
    assert ran(capsys, "faces", tmp_path / "wall.jpg", "-o", tmp_path / "boxes.jpg")[0] == 0
    assert Image.open(tmp_path / "boxes.jpg").size == (LONGEST, LONGEST * 3 // 4)


def test_without_a_face_it_says_what_was_tried_and_what_helps(
    tmp_path: Path, capsys: Capsys
) -> None:
    Image.new("RGB", (300, 300), (9, 9, 9)).save(tmp_path / "night.png")
    code, out, err = ran(capsys, "faces", tmp_path / "night.png", "-o", tmp_path / "boxes.png")
    assert code == 4
    assert "no face found (tried" in err
    assert "--eyes" in err
    assert out == ""
    assert not (tmp_path / "boxes.png").exists()


def test_a_second_detector_may_look(group: Path, capsys: Capsys) -> None:
    found = {}
    for name in ("dlib", "mediapipe", "either"):
        code, out, err = ran(capsys, "faces", group, "--detector", name, "--json")
        assert code == 0, err
        found[name] = [each["eyes"] for each in json.loads(out)["faces"]]
    assert found["either"] == found["dlib"] != found["mediapipe"]
    np.testing.assert_allclose(found["mediapipe"][:2], found["dlib"], atol=9)


@pytest.mark.parametrize("out", ["group.png", "boxes.bmp", "missing/boxes.png"])
def test_what_cannot_be_written_is_refused_first(
    out: str, group: Path, tmp_path: Path, capsys: Capsys
) -> None:
    before = group.read_bytes()
    code, _, err = ran(capsys, "faces", group, "-o", tmp_path / out, "--force")
    assert code == 12, err
    assert group.read_bytes() == before


def test_a_number_that_nobody_has(group: Path, tmp_path: Path, capsys: Capsys) -> None:
    code, _, err = ran(capsys, "faces", group, "--face", 3, "-o", tmp_path / "3.csv")
    assert code == 4
    assert "has no face 3, only 2" in err


# --- said by a person --------------------------------------------------------------------------


def test_landmarks_that_were_edited_are_the_morphs(tmp_path: Path, capsys: Capsys) -> None:
    """The loop of a person: write them, move them, morph with them."""
    photo, points = tmp_path / "grace.jpg", tmp_path / "grace.csv"
    photo.write_bytes(GRACE_HOPPER.read_bytes())
    assert ran(capsys, "faces", photo, "-o", points)[0] == 0
    moved = tmp_path / "moved.csv"
    write_landmarks(moved, read_landmarks(points) + np.array([40, 25]))
    made = {}
    for name, given in (("own", points), ("moved", moved)):
        words = [photo, photo, "--landmarks", given, "--landmarks", "-", "--size", 64]
        out = tmp_path / name
        code, _, err = ran(capsys, "morph", *words, "--steps", 2, "-o", f"{out}/")
        assert code == 0, err
        made[name] = sorted(out.glob("*.png"))
    np.testing.assert_allclose(*map(pixels, made["own"]), atol=1)  # points have three digits
    assert np.abs(pixels(made["moved"][0]) - pixels(made["moved"][1])).mean() > 5


@pytest.mark.parametrize("command", ["average", "grid", "morph"])
def test_every_command_takes_eyes(command: str, tmp_path: Path, capsys: Capsys) -> None:
    """A picture in which there is no face, and somebody who says where its eyes are."""
    drawn, photo, out = tmp_path / "drawn.png", tmp_path / "grace.jpg", tmp_path / "out.png"
    Image.new("RGB", (200, 200), (200, 180, 160)).save(drawn)
    photo.write_bytes(GRACE_HOPPER.read_bytes())
    given = [drawn, photo, *([photo, photo] if command == "grid" else [])]
    where = ["--eyes", "70,80,130,80", *["--eyes", "-"] * (len(given) - 1)]
    common = ["--size", 64, "-o", out, "--json"]
    code, said, err = ran(capsys, command, *given, *where, *common)
    assert code == 0, err
    assert "mean face" in json.loads(said)["warnings"][0]["doubt"]
    code, _, err = ran(capsys, command, *given, *common, "--force")
    assert code == 4
    assert "--eyes X,Y,X,Y" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--eyes", "1,2,3,4"], "give --eyes once for each of 2 photos"),
        (["--eyes", "1,2,3", "--eyes", "-"], "'1,2,3' is not where two eyes are"),
        (["--eyes", "a,b,c,nan", "--eyes", "-"], "is not where two eyes are"),
        (["--landmarks", "p.csv"], "give --landmarks once for each of 2 photos"),
        (
            ["--eyes", "1,2,30,4", "--eyes", "-", "--landmarks", "p.csv", "--landmarks", "-"],
            "not both",
        ),
    ],
)
def test_what_is_said_wrongly_is_told_before_the_work(
    words: list[str], said: str, tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").write_bytes(GRACE_HOPPER.read_bytes())
    write_landmarks(Path("p.csv"), np.arange(136.0).reshape(68, 2))
    code, _, err = ran(capsys, "morph", "a.jpg", "a.jpg", *words, "-o", "out.gif")
    assert code == 2
    assert said in " ".join(err.replace("│", " ").split())


def test_landmarks_are_an_input_and_never_an_output(tmp_path: Path, capsys: Capsys) -> None:
    points, photo = tmp_path / "points.png", tmp_path / "a.jpg"
    photo.write_bytes(GRACE_HOPPER.read_bytes())
    write_landmarks(points, np.arange(136.0).reshape(68, 2))
    before = points.read_bytes()
    words = ["--landmarks", points, "--landmarks", "-", "-o", points, "--force"]
    assert ran(capsys, "morph", photo, photo, *words)[0] == 12
    assert points.read_bytes() == before
