"""A run that starts from a finished model starts from exactly that, or says why it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facemorph_core.bundle import open_bundle
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ModelError
from facemorph_core.learning.models import build_model
from facemorph_core.learning.release import write_bundle
from facemorph_core.learning.training.start import starting_model

MODEL: dict[str, Any] = {
    "kind": "vae",
    "latent_dim": 30,
    "image_size": 32,
    "width": 8,
    "geometry": "mean_shape",
}


def config_of(start: str = "", **changes: Any) -> RunConfig:
    return RunConfig.model_validate({"name": "tiny", "model": MODEL | changes, "start": start})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = config_of()
    out = tmp_path_factory.mktemp("start") / "finished.facemorph"
    model = build_model(config.model, seed=7)
    return write_bundle(model, out, config=config.model_dump(mode="json"), training={}, metrics={})


def test_without_a_start_the_weights_come_from_the_seed():
    model = starting_model(config_of())
    fresh = build_model(config_of().model, seed=0)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True)
    )


@pytest.mark.parametrize("kind", ["vae", "vaegan"])
def test_the_weights_are_those_of_the_bundle(finished, kind):
    """A VAE-GAN's autoencoder is a VAE: each can go on from the other."""
    model = starting_model(config_of(str(finished), kind=kind))
    stored = open_bundle(finished).weights()
    state = model.state_dict()
    assert set(state) == set(stored)
    assert all(np.array_equal(state[name].numpy(), value) for name, value in stored.items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"geometry": "plain"}, r"30 numbers \(mean_shape\).*30 \(plain\)"),
        ({"latent_dim": 40}, "30 numbers.*40"),
        ({"width": 16}, "cannot be started from"),
        ({"kind": "ae"}, "cannot be started from"),
    ],
)
def test_another_layout_is_refused_with_the_way_out(finished, changes, words):
    with pytest.raises(ModelError, match=words) as caught:
        starting_model(config_of(str(finished), **changes))
    assert "facemorph-core inspect" in caught.value.hint


def test_a_start_that_is_not_there_is_named():
    with pytest.raises(ModelError, match="nowhere"):
        starting_model(config_of("nowhere.facemorph"))


def test_a_bundle_tells_no_folder_of_its_start(finished, tmp_path):
    config = config_of(str(finished))
    model = starting_model(config)
    plain = config.model_dump(mode="json")
    out = write_bundle(model, tmp_path / "b.facemorph", config=plain, training={}, metrics={})
    assert open_bundle(out).manifest.config["start"] == "finished.facemorph"


# --- a bundle of the mean shape ----------------------------------------------------------------


def test_a_bundle_of_the_mean_shape_needs_landmarks_and_keeps_the_shape(finished):
    bundle = open_bundle(finished)
    faces = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="needs the landmarks"):
        bundle.encode(faces)
    rng = np.random.default_rng(1)
    shape = rng.normal(size=(2, 24)).astype(np.float32)
    landmarks = bundle.geometry._landmarks_of(shape)
    codes = bundle.encode(faces, landmarks)
    assert codes.shape == (2, 30)
    np.testing.assert_allclose(codes[:, :24], shape, atol=1e-3)
    assert bundle.decode(codes).shape == (2, 32, 32, 3)
    bundle.check_reference()
