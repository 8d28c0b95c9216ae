"""Every geometry keeps one contract, and a new one needs nothing but a class and its entry."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facemorph_core.alignment.frame import NUM_SHAPE, mean_shape, shape_basis
from facemorph_core.alignment.geometry import apply_affine, rescaling
from facemorph_core.bundle import open_bundle
from facemorph_core.config.schema import RunConfig
from facemorph_core.latent.geometry import (
    GEOMETRIES,
    Geometry,
    GeometryKind,
    Seen,
    geometry_of,
    network_numbers,
)
from facemorph_core.latent.interpolate import path
from facemorph_core.learning.models import build_model
from facemorph_core.learning.release import write_bundle
from facemorph_core.learning.training.batches import load_batch
from facemorph_core.learning.training.grid import draw_grid
from facemorph_core.learning.training.local import evaluate_shard, train_epochs
from facemorph_core.learning.training.reconstruct import decode, encode
from facemorph_core.metrics.psnr import psnr
from facemorph_core.morphing.layers import Face, Layers
from facemorph_core.morphing.transition import Transition
from facemorph_core.morphing.view import View

SIZE = 64
seeds = st.integers(0, 10_000)


# --- a third geometry: the face is slid to the middle -------------------------------------------


class Sliding(Geometry):
    """Two numbers of a code are how far, in pixels, the landmarks lie off the mean shape."""

    numbers = 2

    @property
    def texture_landmarks(self) -> NDArray[np.float64]:
        return mean_shape()

    def see(self, frames: NDArray[np.uint8], landmarks: NDArray[Any]) -> Seen:
        points = np.asarray(landmarks, np.float32)
        away = np.rint((points - mean_shape(self.size)).mean(axis=1)).astype(np.float32)
        return _Slid(_rolled(frames, -away), away, points - away[:, None])

    def show(
        self, pictures: NDArray[np.uint8], shape: NDArray[np.floating[Any]]
    ) -> NDArray[np.uint8]:
        return _rolled(pictures, shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Slid(Seen):
    def places(self, points: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(points, np.float32) - self.shape[:, None, None]


def _rolled(pictures: NDArray[np.uint8], away: NDArray[Any]) -> NDArray[np.uint8]:
    pairs = zip(pictures, np.rint(away).astype(int)[:, ::-1], strict=True)
    return np.stack([np.roll(each, tuple(by), axis=(0, 1)) for each, by in pairs])


# --- the contract -------------------------------------------------------------------------------


all_geometries = pytest.mark.parametrize("kind", [*GEOMETRIES.values(), Sliding])


def faces(seed: int, count: int = 3) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Smooth colours, which a warp can carry there and back, and landmarks off the mean shape."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    waves = rng.uniform(1, 5, (count, 3, 2)) @ np.stack([x, y]).reshape(2, -1)
    values = 127.5 + 120 * np.sin(waves + rng.uniform(0, 6, (count, 3, 1)))
    pixels = values.reshape(count, 3, SIZE, SIZE).transpose(0, 2, 3, 1).round().astype(np.uint8)
    shapes = shape_basis().decode_shape(0.6 * rng.normal(size=(count, NUM_SHAPE)))
    slid = shapes + rng.uniform(-4, 4, (count, 1, 2))
    return pixels, apply_affine(rescaling(SIZE / 128), slid).astype(np.float32)


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


# --- a third one goes all the way ---------------------------------------------------------------


class Few:
    """As much of a shard as training reads."""

    size = SIZE

    def __init__(self) -> None:
        self.pixels, self.points = faces(4, count=6)

    def rows(self, split: str) -> NDArray[np.int64]:
        return np.arange(6)

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.pixels[rows]

    def landmarks(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.points[rows]


def test_a_third_geometry_is_trained_released_and_morphed(tmp_path: Path, monkeypatch):
    """It stands under a name that configs know; what it replaces must be asked nowhere."""
    monkeypatch.setitem(GEOMETRIES, "mean_shape", Sliding)
    model = {"kind": "ae", "width": 8, "latent_dim": 8, "image_size": SIZE}
    config = RunConfig.model_validate(
        {
            "name": "third",
            "model": model | {"geometry": "mean_shape"},
            "training": {"batch_size": 3, "precision": "float32"},
        }
    )
    assert config.model.network_numbers == 6
    shard, geometry, net = Few(), Sliding(SIZE), build_model(config.model)
    codes = _trained(net, shard, config)

    out = tmp_path / "third.facemorph"
    written = config.model_dump(mode="json")
    bundle = open_bundle(write_bundle(net, out, config=written, training={}, metrics={}))
    assert (bundle.geometry, bundle.manifest.latent_dim) == (geometry, 8)
    bundle.check_reference()
    pixels, landmarks = shard.pixels[:2], shard.points[:2]
    np.testing.assert_allclose(bundle.encode(pixels, landmarks), codes[:2], atol=0.01)
    assert _error(bundle.decode(bundle.encode(pixels, landmarks, fit=1)), pixels) < _error(
        bundle.decode(codes[:2]), pixels
    )
    with pytest.raises(ValueError, match="needs the landmarks"):
        bundle.encode(pixels)

    seen, way = geometry.see(pixels, landmarks), path(codes[0], codes[1], [0, 0.5, 1])
    np.testing.assert_array_equal(geometry.split(way)[0][1], seen.shape.mean(axis=0))
    assert bundle.decode(way).shape == (3, SIZE, SIZE, 3)
    place = rescaling(128 / SIZE)
    shown = [
        Face(np.kron(p, np.ones((2, 2, 1), np.uint8)), apply_affine(place, q), code, p, place)
        for p, q, code in zip(pixels, landmarks.astype(np.float64), codes, strict=False)
    ]
    morph = Transition(Layers(bundle, shown), lambda _: View.of_frame(128))
    assert morph.frame(0.5).shape == (128, 128, 3)


def _trained(net: Any, shard: Few, config: RunConfig) -> NDArray[np.float32]:
    """Trained and looked at in all ways that training has; the codes of the faces."""
    batch = load_batch(shard, shard.rows("train"), config, torch.device("cpu"))
    assert batch.weights == 1.0  # every pixel covers one of the frame
    train_epochs(net, shard, config, epochs=1, seed=0)
    assert evaluate_shard(net, shard, "val", config)["examples"] == 6
    assert draw_grid(net, shard, config) is not None
    geometry = Sliding(SIZE)
    codes = encode(net, geometry, shard.pixels, shard.points)
    fitted = encode(net, geometry, shard.pixels, shard.points, fit=1)
    drawn, nearer = (decode(net, geometry, each) for each in (codes, fitted))
    assert _error(nearer, shard.pixels) < _error(drawn, shard.pixels)
    return codes


def _error(drawn: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    return float(np.square(drawn.astype(float) - wanted).mean())
