"""The warp to the mean shape: smooth, without folds, and the same face on the way back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facemorph_core.alignment import warp
from facemorph_core.alignment.frame import (
    FRAME_SIZE,
    NUM_SHAPE,
    mean_shape,
    mirror_landmarks,
    shape_basis,
)
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.metrics.psnr import psnr

seeds = st.integers(0, 10_000)


def shapes(seed: int, count: int = 2, spread: float = 1.0) -> np.ndarray:
    codes = spread * np.random.default_rng(seed).normal(size=(count, NUM_SHAPE))
    return np.stack([shape_basis().decode_shape(code) for code in codes])


def pictures(seed: int, count: int = 2, size: int = FRAME_SIZE) -> np.ndarray:
    """Smooth colours: what a warp can carry there and back."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = rng.uniform(1, 9, (count, 3, 2)) @ np.stack([x, y]).reshape(2, -1)
    values = 127.5 + 120 * np.sin(waves + rng.uniform(0, 6, (count, 3, 1)))
    return values.reshape(count, 3, size, size).transpose(0, 2, 3, 1).round().astype(np.uint8)


def test_the_mean_shape_moves_nothing():
    fields = warp.displacements(mean_shape()[None])
    assert np.abs(fields).max() < 1e-4
    np.testing.assert_allclose(warp.areas(fields), 1, atol=1e-4)
    faces = pictures(0, count=1)
    assert np.array_equal(warp.to_mean_shape(faces, fields), faces)
    assert np.array_equal(warp.to_frame(faces, fields), faces)


@settings(deadline=None, max_examples=15)
@given(seeds, st.floats(0, 4))
def test_no_shape_folds_the_picture(seed, spread):
    fields = warp.displacements(shapes(seed, spread=spread))
    assert warp.areas(fields).min() > 0.9 * warp.LEAST_AREA
    assert np.isfinite(fields).all()


@settings(deadline=None, max_examples=10)
@given(seeds)
def test_there_and_back_is_the_same_picture(seed):
    fields = warp.displacements(shapes(seed, spread=0.6))
    faces = pictures(seed)
    back = warp.to_frame(warp.to_mean_shape(faces, fields), fields)
    assert psnr(faces, back).min() > 30


@settings(deadline=None, max_examples=10)
@given(seeds)
def test_landmarks_land_near_the_mean_shape(seed):
    """A dot painted on a landmark is found near the mean shape's place in the texture.

    Of shapes that would fold the picture this is not said: they are moved less.
    """
    shape = shapes(seed, count=1, spread=0.7)
    fields = warp.displacements(shape)
    assume(warp.areas(fields).min() > 1.5 * warp.LEAST_AREA)
    places = mean_shape().round().astype(int)
    inside = ((places >= 4) & (places < FRAME_SIZE - 4)).all(axis=1)
    there = mean_shape()[inside] + fields[0][places[inside, 1], places[inside, 0]]
    assert np.linalg.norm(there - shape[0][inside], axis=1).mean() < 1


@settings(deadline=None, max_examples=10)
@given(seeds)
def test_points_of_the_frame_are_found_in_the_texture(seed):
    fields = warp.displacements(shapes(seed, spread=0.3))
    points = np.random.default_rng(seed).uniform(8, 119, (5, 7, 2))
    places = warp.found_in_texture(points, fields)
    for place, field in zip(places, fields, strict=True):
        x, y = place[..., 0], place[..., 1]
        moved = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        assert np.abs(place + moved - points).mean() < 0.05


def test_the_cut_of_a_frame_is_found_in_its_texture():
    cut = pytest.importorskip("facemorph_core.learning.losses.identity").cut
    geometry, size = geometry_of("mean_shape", FRAME_SIZE), FRAME_SIZE
    frames = pictures(5)
    seen = geometry.see(frames, shapes(5, spread=0.6))

    def sampled(images: np.ndarray, places: np.ndarray) -> np.ndarray:
        pairs = zip(images, places.astype(np.float32), strict=True)
        return np.stack([cv2.remap(i, p[..., 0], p[..., 1], cv2.INTER_LINEAR) for i, p in pairs])

    fixed = np.stack([cut(size)] * len(frames))
    wanted = sampled(frames, fixed)
    there = psnr(wanted, sampled(seen.pixels, seen.places(cut(size))))
    at_the_same_pixels = psnr(wanted, sampled(seen.pixels, fixed))
    assert there.min() > 35
    assert (there > at_the_same_pixels + 5).all()


def test_a_mirrored_face_has_the_mirrored_field():
    shape = shapes(3, count=1)[0]
    field = warp.displacements(shape[None])[0]
    mirrored = warp.displacements(mirror_landmarks(shape, width=float(FRAME_SIZE))[None])[0]
    np.testing.assert_allclose(mirrored[..., 0], -field[:, ::-1, 0], atol=0.02)
    np.testing.assert_allclose(mirrored[..., 1], field[:, ::-1, 1], atol=0.02)


def test_the_area_adds_up_to_the_frame():
    """The border is held, so the texture covers the whole frame: the mean area is 1."""
    areas = warp.areas(warp.displacements(shapes(5, count=8)))
    np.testing.assert_allclose(areas.mean(axis=(1, 2)), 1, atol=0.03)


@pytest.mark.parametrize("size", [64, 256])
def test_another_size_is_the_same_warp(size):
    scale = size / FRAME_SIZE
    shape = shapes(2, count=1)
    large = (shape + 0.5) * scale - 0.5
    there = warp.displacements(large, size)[0, size // 2, size // 3] / scale
    place = (np.array([size // 3, size // 2]) + 0.5) / scale - 0.5
    low = np.floor(place).astype(int)
    near = warp.displacements(shape)[0, low[1] : low[1] + 2, low[0] : low[0] + 2].mean(axis=(0, 1))
    np.testing.assert_allclose(there, near, atol=0.25)
