"""Faces of which a person says where they are: by two eyes, or by all 68 landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.align import align_photo, choose_face
from facemorph_core.alignment.doubts import is_a_face
from facemorph_core.alignment.frame import eye_centres, mean_shape
from facemorph_core.alignment.geometry import apply_affine, similarity
from facemorph_core.alignment.given import BESIDE, Eyes, GivenLandmarks, face_given
from facemorph_core.alignment.landmark_files import read_landmarks, write_landmarks
from facemorph_core.alignment.landmarks import DetectedFace, DlibDetector
from facemorph_core.errors import OutputError, PhotoError
from facemorph_core.morphing.morph import morph
from tests.core.faces import GRACE_HOPPER, astronaut

points = hnp.arrays(
    np.float64, (68, 2), elements=st.floats(-2000, 20000).map(lambda x: round(x, 3))
)


class Blind:
    """A detector that is never asked."""

    tried = "nothing"

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        raise AssertionError("it was asked")


def portrait(name: str) -> NDArray[np.uint8]:
    return astronaut() if name == "eileen" else np.asarray(Image.open(GRACE_HOPPER).convert("RGB"))


def eyes_at(centres: NDArray[np.float64]) -> Eyes:
    (x1, y1), (x2, y2) = centres.tolist()
    return Eyes((x1, y1), (x2, y2))


@pytest.mark.parametrize("name", ["eileen", "grace"])
@pytest.mark.parametrize("beside", [(0.0, 0.0), (0.06, -0.05), (-0.07, 0.04)])
def test_from_two_eyes_the_landmarks_are_found(name: str, beside: tuple[float, float]) -> None:
    """Wherever about the eyes a person clicks: near those that the detector's box leads to."""
    image = portrait(name)
    wanted = DlibDetector().detect(image)[0].landmarks
    centres = eye_centres(wanted)
    apart = float(np.linalg.norm(centres[1] - centres[0]))
    found = choose_face(image, Blind(), eyes_at(centres + apart * np.array(beside)))
    assert found.doubts == ()
    away = np.linalg.norm(found.landmarks - wanted, axis=1) / apart
    assert away.mean() < 0.06


@pytest.mark.parametrize("noise", [0, 40, 255])
def test_where_there_is_no_face_there_is_one_all_the_same(noise: int) -> None:
    """A wall, of which somebody says that it is a face: landmarks of a face, about the eyes."""
    wall = np.random.default_rng(0).integers(0, noise + 1, (400, 500, 3), dtype=np.uint8)
    eyes = Eyes((200.0, 150.0), (290.0, 160.0))
    found = choose_face(wall, Blind(), eyes)
    beside = np.linalg.norm(eye_centres(found.landmarks) - [eyes.left, eyes.right], axis=1)
    assert is_a_face(found.landmarks)
    assert beside.max() <= BESIDE * eyes.distance
    is_the_mean = bool(beside.max() < 1e-6)
    assert any("mean face" in doubt for doubt in found.doubts) == is_the_mean


@given(
    turn=st.floats(-3.1, 3.1), scale=st.floats(0.5, 4), x=st.floats(50, 200), y=st.floats(50, 200)
)
@settings(max_examples=15, deadline=None)
def test_the_eye_that_is_named_first_is_the_left_one_of_the_upright_face(
    turn: float, scale: float, x: float, y: float
) -> None:
    centred = mean_shape() - mean_shape().mean(axis=0)
    there = apply_affine(similarity(turn, scale, (x + 600, y + 600)), centred)
    image = np.zeros((1400, 1400, 3), np.uint8)
    found = face_given(image, eyes_at(eye_centres(there)))
    np.testing.assert_allclose(found.landmarks, there, atol=scale)


@pytest.mark.parametrize(
    ("eyes", "said"),
    [
        (Eyes((10, 10), (700, 10)), "an eye lies beyond the photo of 512 x 512 pixels"),
        (Eyes((-5, 10), (70, 10)), "an eye lies beyond"),
        (Eyes((100, 100), (101, 100)), "the eyes are 1.0 pixels apart"),
    ],
)
def test_eyes_that_cannot_be_are_refused(eyes: Eyes, said: str) -> None:
    with pytest.raises(PhotoError, match=said) as raised:
        choose_face(astronaut(), Blind(), eyes, name="eileen.png")
    assert str(raised.value).startswith("eileen.png: ")
    assert "upper left corner" in (raised.value.hint or "")


def test_landmarks_are_taken_as_they_are() -> None:
    wanted = DlibDetector().detect(astronaut())[0].landmarks + np.array([3.25, -2.5])
    face = align_photo(astronaut(), Blind(), face=GivenLandmarks(wanted))
    np.testing.assert_allclose(apply_affine(face.to_frame, wanted), face.landmarks, atol=1e-9)
    assert choose_face(astronaut(), Blind(), GivenLandmarks(wanted)).doubts == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((68, 2)) + 9, "on one place"),
        (mean_shape() + 5000, "all landmarks lie beyond"),
        (mean_shape()[:67], "68 landmarks"),
        (np.full((68, 2), np.nan), "68 landmarks"),
    ],
)
def test_landmarks_that_cannot_be_are_refused(given: NDArray[np.float64], said: str) -> None:
    with pytest.raises(PhotoError, match=said):
        choose_face(astronaut(), Blind(), GivenLandmarks(given))


def test_landmarks_that_are_no_faces_are_doubted() -> None:
    scattered = np.random.default_rng(0).uniform(0, 500, (68, 2))
    (doubt, *_) = choose_face(astronaut(), Blind(), GivenLandmarks(scattered)).doubts
    assert "do not lie as those of a face" in doubt


def test_a_morph_takes_them() -> None:
    wanted = DlibDetector().detect(astronaut())[0].landmarks
    given = (GivenLandmarks(wanted), Eyes((180.0, 120.0), (250.0, 120.0)))
    sequence = morph(astronaut(), astronaut(), face=given, steps=2, size=64, detector=Blind())
    by_itself = align_photo(astronaut(), size=64, beyond="blurred").pixels
    np.testing.assert_array_equal(sequence.frames[0], by_itself)


# --- files -------------------------------------------------------------------------------------


@given(points=points, suffix=st.sampled_from([".csv", ".pts", ".PTS"]))
@settings(max_examples=30)
def test_a_file_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, points: NDArray[np.float64], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("points") / f"anna{suffix}"
    write_landmarks(path, points)
    np.testing.assert_allclose(read_landmarks(path), points, atol=6e-4)


def test_pts_count_from_one_as_ibug_does(tmp_path: Path) -> None:
    path = tmp_path / "a.pts"
    rows = "\n".join(f"{n + 1} {n + 101}" for n in range(68))
    path.write_text(f"version: 1\nn_points:  68\n{{\n{rows}\n}}\n")
    np.testing.assert_array_equal(read_landmarks(path)[5], [5, 105])


@pytest.mark.parametrize(
    "form",
    ["x,y\n{}", "X, Y\n{}", "{}", "# of anna\nx;y\n\n{}", "\ufeffx,y\n{}", "x\ty\r\n{}"],
)
@pytest.mark.parametrize("between", [",", ";", "\t", " , "])
def test_tables_are_read_as_people_write_them(tmp_path: Path, form: str, between: str) -> None:
    path = tmp_path / "a.csv"
    rows = "\n".join(f"{n}.5{between}{2 * n}" for n in range(68))
    path.write_text(form.format(rows), encoding="utf-8")
    np.testing.assert_array_equal(read_landmarks(path)[7], [7.5, 14])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y\n1,2\n", "holds 1 landmarks, and 68 are needed"),
        ("x,y\n1,2\n\n1,two\n", "line 4 is no point x, y: '1,two'"),
        ("x,y\n1,2,3\n", "line 2 is no point"),
        ("x,y\n1,inf\n", "line 2 is no point"),
        ("version: 1\nn_points: 68\n1 2\n", "holds 0 landmarks"),
        ("", "holds 0 landmarks"),
    ],
)
def test_a_file_that_holds_something_else_says_where(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(PhotoError, match=said):
        read_landmarks(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01" * 9, bytes(4_000_000)])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(PhotoError, match=r"no text|no point"):
        read_landmarks(path)
    with pytest.raises(PhotoError, match="cannot be read: No such file"):
        read_landmarks(tmp_path / "missing.csv")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_landmarks(path, mean_shape())
    with pytest.raises(OutputError, match="exists already"):
        write_landmarks(path, mean_shape() + 1)
    np.testing.assert_allclose(read_landmarks(path), mean_shape(), atol=6e-4)
