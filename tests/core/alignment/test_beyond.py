"""Beyond its border a photo goes on as a blur: nothing that is in it is seen there again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facemorph_core.alignment.align import align_face
from facemorph_core.alignment.beyond import (
    distance_beyond,
    lacking,
    places,
    share_lacking,
)
from facemorph_core.alignment.continuation import continued
from facemorph_core.alignment.geometry import compose_affine, invert_affine, similarity
from facemorph_core.alignment.halvings import LONGEST_SIDE, Halvings
from facemorph_core.alignment.resample import resample
from tests.core.faces import astronaut, landmarks_at, smooth_picture

NOISE = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
sides = st.integers(1, 60)


@given(turn=st.floats(-3, 3), scale=st.floats(0.05, 6), x=st.floats(-90, 90), y=st.floats(-90, 90))
@settings(max_examples=40, deadline=None)
def test_inside_the_photo_it_is_the_photo_to_the_last_bit(
    turn: float, scale: float, x: float, y: float
) -> None:
    matrix = similarity(turn, scale, (x, y))
    there = places((80, 70), invert_affine(matrix))
    inside = distance_beyond(*there, (120, 90)) == 0
    mirrored, blurred = (
        resample(NOISE, matrix, size=(80, 70), beyond=way) for way in ("mirrored", "blurred")
    )
    np.testing.assert_array_equal(blurred[inside], mirrored[inside])


@given(h=sides, w=sides, x=st.floats(-400, 400), y=st.floats(-400, 400))
@settings(max_examples=60, deadline=None)
def test_nothing_is_brighter_or_darker_than_the_photo(h: int, w: int, x: float, y: float) -> None:
    picture = NOISE[:h, :w]
    shown = resample(picture, similarity(0.3, 1.5, (x, y)), size=(50, 60), beyond="blurred")
    assert shown.shape == (50, 60, 3)
    for channel in range(3):
        far = distance_beyond(
            *places((50, 60), invert_affine(similarity(0.3, 1.5, (x, y)))), (h, w)
        )
        beyond = shown[..., channel][far > 4]
        if beyond.size:
            assert picture[..., channel].min() <= beyond.min()
            assert beyond.max() <= picture[..., channel].max()


def test_what_is_in_the_photo_is_not_seen_again_beyond_it() -> None:
    """Eyes of a face that fills its photo: a mirror shows them twice, the blur does not."""
    face = astronaut()[60:200, 160:290]
    shift = similarity(0.0, 1.0, (80.0, 80.0))
    twice, once = (
        _detail(resample(face, shift, size=(300, 290), beyond=way))
        for way in ("mirrored", "blurred")
    )
    above = slice(0, 68), slice(80, 210)
    again = np.corrcoef(twice[above].ravel(), _detail(face)[68 + 12 : 12 : -1].ravel())[0, 1]
    assert again > 0.95  # the mirror is one
    assert once[above].std() < 0.1 * twice[above].std()


def _detail(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    grey = picture.astype(float).mean(axis=2)
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), 4))


def test_there_is_no_edge_where_the_photo_ends() -> None:
    picture = smooth_picture(100, 100)
    shown = resample(picture, similarity(0.0, 1.0, (40.0, 40.0)), size=(180, 180), beyond="blurred")
    steps = np.abs(np.diff(shown.astype(int), axis=1)).max(axis=(0, 2))
    assert steps[36:42].max() <= 1.5 * steps[45:130].max()


def test_a_smooth_picture_is_continued_alike_at_any_size() -> None:
    """A frame of 512 pixels shows beyond the photo what one of 128 shows."""
    picture = np.ascontiguousarray(astronaut()[60:200, 160:290])
    points = landmarks_at(similarity(0.02, 1.1, (25.0, 30.0)))
    small, large = (align_face(picture, points, size=s, beyond="blurred") for s in (128, 512))
    shrunk = cv2.resize(large.pixels, (128, 128), interpolation=cv2.INTER_AREA)
    far = lacking(small.to_frame, small.photo_size, 128) == 1
    assert far.any()
    assert np.abs(shrunk.astype(float) - small.pixels)[far].mean() < 6


def test_distances_are_those_to_the_nearest_pixel() -> None:
    y, x = np.mgrid[-9:20, -7:25].astype(np.float32)
    rows, columns = np.mgrid[0:8, 0:11]
    there = np.stack([columns.ravel(), rows.ravel()])
    slow = np.hypot(x[..., None] - there[0], y[..., None] - there[1]).min(axis=-1)
    np.testing.assert_allclose(distance_beyond(x, y, (8, 11)), slow, atol=1e-5)


@given(x=st.floats(-40, 40), y=st.floats(-40, 40), scale=st.floats(0.2, 5))
@settings(max_examples=40, deadline=None)
def test_what_is_lacking_grows_from_the_border_outwards(x: float, y: float, scale: float) -> None:
    to_frame = compose_affine(similarity(0.0, scale, (0.0, 0.0)), similarity(0.1, 1.0, (x, y)))
    found = lacking(to_frame, (100, 80), 128)
    far = distance_beyond(*places((128, 128), invert_affine(to_frame)), (100, 80))
    assert (found[far == 0] == 0).all()
    assert (found[far * scale > 6.01] == 1).all()
    inside = np.isclose(far, 0)
    assert share_lacking(to_frame, (100, 80)) <= 1 - inside.mean() + 1e-9


def test_all_is_there_where_the_frame_lies_in_the_photo() -> None:
    assert share_lacking(similarity(0.0, 1.0, (-20.0, -20.0)), (300, 300)) == 0
    assert share_lacking(similarity(0.0, 1.0, (64.0, 0.0)), (300, 300)) == pytest.approx(
        0.5, abs=0.01
    )


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (7, 1, 4), (33, 65, 4)])
def test_halves_of_any_picture_keep_its_mean(shape: tuple[int, int, int]) -> None:
    picture = np.full(shape, 90, np.uint8)
    pictures = Halvings(picture)
    for wanted in (5, 0, 1, -3):
        there, shrunk = pictures.nearest(wanted)
        assert 0 <= there <= max(wanted, 0)
        assert (shrunk == 90).all()
        assert shrunk.shape[2] == shape[2]
    assert pictures.nearest(0)[1] is picture


def test_a_picture_that_opencv_cannot_address_is_never_shown_whole() -> None:
    there, shrunk = Halvings(np.zeros((2, LONGEST_SIDE + 2, 3), np.uint8)).nearest(0)
    assert there == 1
    assert max(shrunk.shape) <= LONGEST_SIDE


def test_where_nothing_is_far_nothing_changes() -> None:
    there = places((20, 20), similarity(0.0, 1.0, (3.0, 3.0)))
    found = NOISE[3:23, 3:23].astype(np.float32)
    far = distance_beyond(*there, (120, 90))
    assert continued(found, *there, far, Halvings(NOISE)) is found
