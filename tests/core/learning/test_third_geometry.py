"""A third geometry is trained, released and morphed: nothing but its class knows what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facemorph_core.alignment.geometry import apply_affine, rescaling
from facemorph_core.bundle import open_bundle
from facemorph_core.config.schema import RunConfig
from facemorph_core.latent.geometry import GEOMETRIES
from facemorph_core.latent.interpolate import path
from facemorph_core.learning.models import build_model
from facemorph_core.learning.release import write_bundle
from facemorph_core.learning.training.batches import load_batch
from facemorph_core.learning.training.grid import draw_grid
from facemorph_core.learning.training.local import evaluate_shard, train_epochs
from facemorph_core.learning.training.reconstruct import decode, encode
from facemorph_core.morphing.layers import Face, Layers
from facemorph_core.morphing.transition import Transition
from facemorph_core.morphing.view import View
from tests.core.latent.sliding import SIZE, Sliding, faces


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
