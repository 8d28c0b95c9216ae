"""Laws of the warp: exact positions, low-pass, reflection, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.alignment.align import AlignedFace, align_face, to_photo
from facemorph_core.alignment.frame import mean_shape
from facemorph_core.alignment.geometry import (
    apply_affine,
    invert_affine,
    rescaling,
    similarity,
)
from facemorph_core.alignment.resample import reflected_crop, resample
from tests.core.faces import landmarks_at, smooth_picture

UNTOUCHED = similarity(0.0, 1.0, (0.0, 0.0))


def test_the_identity_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resample(picture, UNTOUCHED, size=(40, 70)), picture)


def test_a_shift_by_whole_pixels_is_a_crop_and_x_is_not_y():
    picture = np.random.default_rng(1).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    moved = resample(picture, similarity(0.0, 1.0, (-30.0, -5.0)), size=(20, 25))
    np.testing.assert_array_equal(moved, picture[5:25, 30:55])


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shrinking_by_a_whole_factor_is_the_mean_of_blocks(factor):
    picture = np.random.default_rng(2).integers(0, 256, (factor * 8, factor * 8, 3), dtype=np.uint8)
    blocks = picture.reshape(8, factor, 8, factor, 3).mean(axis=(1, 3))
    shrunk = resample(picture, rescaling(1 / factor), size=(8, 8))
    np.testing.assert_allclose(shrunk, blocks, atol=1)


@given(angle=st.floats(-3, 3), shrink=st.floats(1.6, 40))
@settings(max_examples=20)
def test_a_pattern_too_fine_for_the_frame_becomes_its_mean(angle, shrink):
    """Without a low-pass a checkerboard would turn into moire of its whole contrast."""
    y, x = np.mgrid[0:600, 0:600]
    board = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    shrunk = resample(board, similarity(angle, 1 / shrink, (0.0, 0.0)), size=(64, 64))
    left = np.abs(shrunk.astype(float) - 127.5).mean() / 127.5
    assert left < (1 / 3 if shrink < 3 else 1 / 6)


def test_low_pass_keeps_what_the_frame_can_show():
    picture = smooth_picture(900, 900)
    shrunk = resample(picture, rescaling(1 / 7.5), size=(120, 120))
    centres = apply_affine(rescaling(7.5), np.array([[30.0, 40.0], [90.0, 70.0]])).round()
    for (u, v), (x, y) in zip([(30, 40), (90, 70)], centres.astype(int), strict=True):
        np.testing.assert_allclose(shrunk[v, u], picture[y, x], atol=4)


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    left=st.integers(-30, 30),
    top=st.integers(-30, 30),
)
def test_the_border_reflects_as_numpy_does_for_any_size(height, width, left, top):
    picture = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    crop = reflected_crop(picture, left, top, left + 11, top + 7)
    pad = ((60, 60), (60, 60), (0, 0))
    padded = np.pad(picture, pad, mode="reflect")
    np.testing.assert_array_equal(crop, padded[60 + top : 67 + top, 60 + left : 71 + left])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (2, 200)])
def test_a_tiny_photo_fills_the_frame_without_black(size):
    photo = np.full((*size, 3), 200, dtype=np.uint8)
    face = align_face(photo, mean_shape() * 0.05)
    assert (face.pixels == 200).all()


# --- photo -> frame -> photo -----------------------------------------------------------------


def placed(angle, scale, shift, *, photo):
    """A face that lies in ``photo`` (frame -> photo) at the given similarity."""
    to_frame = invert_affine(similarity(angle, scale, shift))
    return align_face(photo, landmarks_at(to_frame)), to_frame


@given(
    angle=st.floats(-3, 3),
    scale=st.floats(0.4, 3),
    shift=st.tuples(st.floats(-80, 300), st.floats(-80, 200)),
)
@settings(max_examples=25)
def test_alignment_finds_the_place_and_the_way_back_is_exact(angle, scale, shift):
    photo = smooth_picture(300, 400)
    face, to_frame = placed(angle, scale, shift, photo=photo)
    np.testing.assert_allclose(face.to_frame, to_frame, atol=1e-6)
    np.testing.assert_allclose(face.landmarks, mean_shape(), atol=1e-6)
    back = to_photo(face.pixels, face, photo)
    assert np.abs(back.astype(int) - photo).max() <= 6
    assert np.abs(back.astype(int) - photo).mean() < 0.5


def test_outside_the_frame_the_photo_is_untouched():
    photo = np.random.default_rng(3).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    face, to_frame = placed(0.4, 1.0, (120.0, 60.0), photo=photo)
    result = to_photo(np.zeros((128, 128, 3), np.uint8), face, photo)
    y, x = np.mgrid[0:300, 0:400]
    there = apply_affine(to_frame, np.stack([x.ravel(), y.ravel()], axis=1).astype(float))
    outside = ((there < -0.5) | (there > 127.5)).any(axis=1).reshape(300, 400)
    np.testing.assert_array_equal(result[outside], photo[outside])
    deep = ((there > 14) & (there < 113)).all(axis=1).reshape(300, 400)
    assert not result[deep].any()


def test_a_larger_frame_goes_back_to_the_same_place():
    photo = smooth_picture(300, 400)
    face, _ = placed(0.2, 1.5, (100.0, 40.0), photo=photo)
    larger = align_face(photo, landmarks_at(face.to_frame), size=256)
    back = to_photo(larger.pixels, face, photo)
    assert np.abs(back.astype(int) - photo).max() <= 6


def test_a_frame_beside_the_photo_changes_nothing():
    photo = smooth_picture(50, 50)
    face, _ = placed(0.0, 1.0, (500.0, 500.0), photo=photo)
    np.testing.assert_array_equal(to_photo(face.pixels, face, photo), photo)


def test_another_photo_is_refused():
    face = AlignedFace(np.zeros((128, 128, 3), np.uint8), mean_shape(), UNTOUCHED, (10, 20))
    with pytest.raises(ValueError, match=r"\(10, 20\)"):
        to_photo(face.pixels, face, np.zeros((20, 10, 3), np.uint8))
