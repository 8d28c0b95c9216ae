"""Every geometry keeps one contract; a further one is a class and its entry."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.alignment.frame import NUM_SHAPE
from facemorph_core.alignment.geometry import apply_affine, rescaling
from facemorph_core.latent.geometry import GEOMETRIES, GeometryKind, geometry_of, network_numbers
from facemorph_core.metrics.psnr import psnr
from tests.core.latent.sliding import SIZE, Sliding, faces

seeds = st.integers(0, 10_000)
all_geometries = pytest.mark.parametrize("kind", [*GEOMETRIES.values(), Sliding])


@all_geometries
@settings(max_examples=5)
@given(seeds)
def test_what_is_seen_and_shown_again_is_the_face(kind, seed):
    geometry, (pixels, landmarks) = kind(SIZE), faces(seed)
    seen = geometry.see(pixels, landmarks)
    assert seen.pixels.shape == pixels.shape
    assert seen.shape.shape == (len(pixels), kind.numbers)
    numbers = np.arange(21, dtype=np.float32).reshape(3, 7)
    shape, texture = geometry.split(geometry.join(seen.shape, numbers))
    np.testing.assert_array_equal(texture, numbers)
    assert psnr(pixels, geometry.show(seen.pixels, shape)).min() > 28


@all_geometries
def test_the_first_faces_are_seen_as_they_are_alone(kind):
    pixels, landmarks = faces(1)
    some, alone = (
        kind(SIZE).see(pixels, landmarks).first(2),
        kind(SIZE).see(pixels[:2], landmarks[:2]),
    )
    points = np.stack(np.meshgrid([20.0, 30.0], [25.0, 40.0]), axis=-1)
    for name in ("pixels", "shape", "landmarks", "areas"):
        np.testing.assert_array_equal(getattr(some, name), getattr(alone, name))
    np.testing.assert_array_equal(some.places(points), alone.places(points))


@all_geometries
def test_the_landmarks_of_a_face_are_found_where_they_are_seen(kind):
    pixels, landmarks = faces(2, count=1)
    seen = kind(SIZE).see(pixels, landmarks)
    off = np.abs(seen.places(landmarks) - seen.landmarks)
    assert np.median(off) < 1.5  # pixels: the warp passes near the landmarks, not through them


@all_geometries
def test_textures_have_their_landmarks_where_the_geometry_says(kind):
    lie, (pixels, landmarks) = kind(SIZE).texture_landmarks, faces(3)
    if lie is None:
        lie = apply_affine(rescaling(128 / SIZE), landmarks.astype(np.float64))
    found = kind(SIZE).see(pixels, landmarks).landmarks
    off = found - apply_affine(rescaling(SIZE / 128), np.asarray(lie))
    assert np.abs(off.mean(axis=1)).max() <= 0.51  # the toy slides by whole pixels


def test_every_name_has_its_geometry():
    assert set(get_args(GeometryKind)) == set(GEOMETRIES)


def test_knowing_the_geometries_loads_neither_opencv_nor_torch():
    script = "import sys, facemorph_core.latent.geometry; print({'cv2', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"set()\n"


def test_a_code_that_is_all_shape_is_refused():
    assert network_numbers(NUM_SHAPE + 1, "mean_shape") == 1
    with pytest.raises(ValueError, match="leaves no number for the texture: 24 are the shape's"):
        network_numbers(NUM_SHAPE, "mean_shape")


def test_shape_numbers_are_cut_where_a_detector_has_failed():
    landmarks = 50 * np.random.default_rng(0).normal(size=(1, 68, 2))
    seen = geometry_of("mean_shape", SIZE).see(faces(0, count=1)[0], landmarks)
    assert np.abs(seen.shape).max() <= 4


def test_the_plain_geometry_is_the_frame_itself():
    geometry, (pixels, landmarks) = geometry_of("plain", SIZE), faces(0)
    seen = geometry.see(pixels, landmarks)
    assert seen.pixels is pixels
    assert seen.shape.shape == (3, 0)
    assert (seen.areas == 1).all()
    assert geometry.show(pixels, seen.shape) is pixels
