"""A face that moves is found near its last place, and everywhere once it is not there."""

from __future__ import annotations

import numpy as np
import pytest

from facemorph_core.alignment.landmarks import DlibDetector
from facemorph_core.alignment.tracking import FaceTracker
from tests.core.faces import astronaut


class Counting(DlibDetector):
    """dlib, and how many pixels it was asked to search."""

    def __init__(self) -> None:
        super().__init__()
        self.searched: list[int] = []

    def find(self, image):
        self.searched.append(image.shape[0] * image.shape[1])
        return super().find(image)

    def detect_first(self, image):
        self.searched.append(image.shape[0] * image.shape[1])
        return super().detect_first(image)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def scene(face: np.ndarray, left: int, top: int) -> np.ndarray:
    """640x480 with the face at a place; it may be cut by the border."""
    picture = np.full((480 + 400, 640 + 400, 3), 110, np.uint8)
    h, w = face.shape[:2]
    picture[top + 200 : top + 200 + h, left + 200 : left + 200 + w] = face
    return np.ascontiguousarray(picture[200:-200, 200:-200])


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return astronaut()[0:260, 90:350]


def test_a_moving_face_is_found_in_a_crop_with_the_landmarks_of_a_whole_search(face):
    detector, clock = Counting(), Clock()
    tracker = FaceTracker(detector, clock=clock)
    whole = DlibDetector()
    for step in range(5):
        picture = scene(face, 60 + 25 * step, 80 + 8 * step)
        [tracked] = tracker.detect(picture)
        truth = whole.detect(picture)[0]
        error = np.linalg.norm(tracked.landmarks - truth.landmarks, axis=1).mean()
        assert error < 0.02 * (truth.box[2] - truth.box[0])
        clock.now += 0.04
    assert detector.searched[0] == 640 * 480
    assert max(detector.searched[1:]) < 0.25 * 640 * 480


def test_a_face_that_jumps_is_searched_everywhere(face):
    detector, clock = Counting(), Clock()
    tracker = FaceTracker(detector, clock=clock)
    tracker.detect(scene(face, 0, 100))
    there = scene(face, 370, 150)
    [found] = tracker.detect(there)
    truth = DlibDetector().detect(there)[0]
    np.testing.assert_allclose(found.box, truth.box, atol=3)
    assert detector.searched[-1] == 640 * 480


def test_no_face_is_no_face_and_the_next_one_is_found(face):
    tracker = FaceTracker(clock=Clock())
    assert tracker.detect(scene(face, 60, 80))
    assert tracker.detect(np.full((480, 640, 3), 110, np.uint8)) == []
    assert tracker.detect(scene(face, 300, 80))


def test_the_whole_picture_is_searched_again_after_a_while(face):
    detector, clock = Counting(), Clock()
    tracker = FaceTracker(detector, clock=clock)
    for seconds in (0.0, 1.9, 2.1):
        clock.now = seconds
        tracker.detect(scene(face, 60, 80))
    assert [size == 640 * 480 for size in detector.searched] == [True, False, True]
