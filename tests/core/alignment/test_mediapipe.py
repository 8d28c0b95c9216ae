"""MediaPipe's nets find faces at any angle and of any size, none where there is none."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment import blazeface, face_mesh, mesh_points
from facemorph_core.alignment.align import choose_face
from facemorph_core.alignment.blazeface import LARGEST, WINDOW
from facemorph_core.alignment.detectors import EitherDetector, detector_named, the_detector
from facemorph_core.alignment.doubts import turn_of
from facemorph_core.alignment.frame import eye_centres, mean_shape
from facemorph_core.alignment.geometry import Points, apply_affine, similarity
from facemorph_core.alignment.landmarks import DetectedFace, DlibDetector, LandmarkDetector
from facemorph_core.alignment.mediapipe import MediaPipeDetector
from facemorph_core.errors import NoFaceFound
from tests.core.faces import astronaut, grace, grace_turned


@cache
def upright() -> DetectedFace:
    return MediaPipeDetector().detect(np.asarray(grace()))[0]


def turned(angle: float) -> tuple[NDArray[np.uint8], Points]:
    """The portrait turned clockwise, and where its landmarks are then."""
    return grace_turned(angle, upright().landmarks)


def apart(a: Points, b: Points) -> float:
    """Mean distance, in distances of the eyes of ``b``."""
    between = np.linalg.norm(np.subtract(*eye_centres(b)))
    return float(np.linalg.norm(a - b, axis=1).mean() / between)


# --- faces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("photo", [np.asarray(grace()), astronaut()])
def test_the_landmarks_of_a_portrait_lie_where_dlibs_do(photo: NDArray[np.uint8]) -> None:
    ours, dlibs = (choose_face(photo, each) for each in (MediaPipeDetector(), DlibDetector()))
    assert apart(ours.landmarks, dlibs.landmarks) < 0.06
    assert ours.doubts == ()


@settings(max_examples=12)
@given(st.floats(0, 360))
def test_a_turned_head_has_the_landmarks_that_it_has_upright(angle: float) -> None:
    image, wanted = turned(angle)
    face = choose_face(image, MediaPipeDetector())
    assert apart(face.landmarks, wanted) < 0.04
    assert abs((turn_of(face.landmarks) - turn_of(wanted) + 180) % 360 - 180) < 3


def test_a_small_face_in_a_large_photo_is_found() -> None:
    wall = Image.new("RGB", (4000, 3000), (150, 150, 150))
    wall.paste(grace().resize((200, 234)), (3100, 400))
    face = choose_face(np.asarray(wall), MediaPipeDetector())
    assert (face.landmarks > (3100, 400)).all()
    assert (face.landmarks < (3300, 634)).all()


def test_in_a_group_everybody_has_a_number_the_nearest_the_first() -> None:
    group = Image.new("RGB", (2400, 1600), (90, 110, 130))
    group.paste(grace().resize((1000, 1172)), (50, 300))
    eileen = Image.fromarray(astronaut()).crop((130, 0, 330, 260)).resize((120, 156))
    for number in range(4):
        group.paste(eileen, (1200 + 280 * number, 250 + 130 * (number % 2)))
    image = np.asarray(group)
    faces = MediaPipeDetector().detect(image)
    assert len(faces) == 5
    assert faces[0].box[2] < 1050
    assert all(face.box[0] > 1200 for face in faces[1:])
    quick = MediaPipeDetector().detect_first(image)
    assert np.array_equal(quick[0].landmarks, faces[0].landmarks)


def test_a_face_that_fills_its_photo_is_found() -> None:
    left, top, right, bottom = map(round, upright().box)
    closely = np.ascontiguousarray(np.asarray(grace())[top:bottom, left:right])
    moved = upright().landmarks - (left, top)
    assert apart(choose_face(closely, MediaPipeDetector()).landmarks, moved) < 0.1


@pytest.mark.parametrize("name", ["coffee", "rocket", "chelsea", "hubble_deep_field"])
def test_where_no_face_is_none_is_found(name: str) -> None:
    image = np.ascontiguousarray(getattr(skimage.data, name)()[..., :3])
    for detector in (MediaPipeDetector(), EitherDetector()):
        with pytest.raises(NoFaceFound, match="turned by quarters"):
            choose_face(image, detector)


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (128, 128), (129, 127)])
def test_pictures_of_any_size_are_looked_at(size: tuple[int, int]) -> None:
    assert MediaPipeDetector().detect(np.full((*size, 3), 90, np.uint8)) == []


def test_threads_may_ask_at_the_same_time() -> None:
    detector, photos = MediaPipeDetector(), [np.asarray(grace()), astronaut()] * 4
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect_first, photos))
    for photo, faces in zip(photos[:2], together[:2], strict=True):
        assert np.array_equal(detector.detect_first(photo)[0].landmarks, faces[0].landmarks)
    for first, later in zip(together[:2] * 3, together[2:], strict=True):
        assert np.array_equal(first[0].landmarks, later[0].landmarks)


# --- windows -----------------------------------------------------------------------------------


@given(
    st.integers(1, 1100),
    st.integers(1, 1100),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_every_small_face_lies_whole_in_a_window(
    h: int, w: int, down: float, across: float
) -> None:
    """Wherever it is in the picture."""
    left = across * max(0, w - LARGEST)
    top = down * max(0, h - LARGEST)
    assert any(
        x <= left
        and y <= top
        # a window may begin half a pixel late, where their places are rounded
        and min(w, left + LARGEST) <= x + WINDOW + 1
        and min(h, top + LARGEST) <= y + WINDOW + 1
        for x, y in blazeface._windows(h, w)
    )


# --- the nets and their numbers ----------------------------------------------------------------


def test_the_nets_are_the_files_that_the_readme_names() -> None:
    readme = (blazeface.GRAPH.parent / "README.md").read_text()
    for file in (blazeface.GRAPH, face_mesh.GRAPH):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in readme


def test_the_mirrored_mesh_has_the_mirrored_landmarks() -> None:
    """The map was fitted to every face and its mirror image."""
    from facemorph_core.alignment.frame import mirror_landmarks

    mesh = np.full((468, 2), 60.0)
    mesh[list(mesh_points.TABLE)] = upright().landmarks
    mirrored = np.full((468, 2), 60.0)
    mirrored[list(mesh_points.TABLE)] = mirror_landmarks(upright().landmarks, width=500.0)
    there = mirror_landmarks(mesh_points.landmarks_of(mesh), width=500.0)
    np.testing.assert_allclose(mesh_points.landmarks_of(mirrored), there, atol=0.05)


@given(st.floats(-3, 3), st.floats(0.2, 5), st.floats(-500, 500), st.floats(-500, 500))
def test_landmarks_go_with_the_mesh(angle: float, scale: float, x: float, y: float) -> None:
    mesh = np.full((468, 2), 60.0)
    mesh[list(mesh_points.TABLE)] = mean_shape()
    way = similarity(angle, scale, (x, y))
    moved = mesh_points.landmarks_of(apply_affine(way, mesh))
    wanted = apply_affine(way, mesh_points.landmarks_of(mesh))
    np.testing.assert_allclose(moved, wanted, atol=1e-6 * max(1.0, abs(x), abs(y), 128 * scale))


# --- which one ---------------------------------------------------------------------------------


class Blind:
    """Sees nothing."""

    tried = "nothing"

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        return []

    detect_first = detect


def test_either_is_dlib_where_dlib_finds_a_face() -> None:
    photo = np.asarray(grace())
    (ours,), (dlibs,) = EitherDetector().detect_first(photo), DlibDetector().detect_first(photo)
    assert np.array_equal(ours.landmarks, dlibs.landmarks)
    assert ours.doubts == ()


def test_either_says_where_only_mediapipe_found_the_face() -> None:
    detector = EitherDetector()
    detector.first = Blind()
    face = choose_face(np.asarray(grace()), detector)
    assert np.array_equal(
        face.landmarks, MediaPipeDetector().detect_first(np.asarray(grace()))[0].landmarks
    )
    (doubt,) = face.doubts
    assert doubt.startswith("only MediaPipe's detector found this face")


@pytest.mark.parametrize("name", ["dlib", "mediapipe", "either"])
def test_a_detector_knows_its_name(name: str) -> None:
    detector = detector_named(name)
    assert isinstance(detector, LandmarkDetector)
    assert detector.name == name
    assert type(the_detector(name)) is type(detector)
    assert the_detector(detector) is detector


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no detector 'yolo': there are dlib, mediapipe, either"):
        detector_named("yolo")


def test_where_dlib_finds_nothing_the_second_one_is_named() -> None:
    nothing = np.full((200, 200, 3), 127, np.uint8)
    with pytest.raises(NoFaceFound) as dlibs:
        choose_face(nothing, DlibDetector())
    assert "--detector either" in str(dlibs.value.hint)
    with pytest.raises(NoFaceFound) as both:
        choose_face(nothing, EitherDetector())
    assert "--detector" not in str(both.value.hint)
