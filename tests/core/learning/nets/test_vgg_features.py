"""What VGG16 sees of a picture."""

import numpy as np
import pytest
import torch

from facemorph_core.errors import WeightsUnavailable
from facemorph_core.learning.nets.vgg import STAGES
from facemorph_core.learning.nets.vgg_features import (
    VGGFeatures,
    fid_unavailable,
    load_features,
    vgg_features,
)
from facemorph_core.metrics.distribution import frechet_distance

LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # VGG16's convolutions in torchvision


@pytest.fixture(scope="module")
def network() -> VGGFeatures:
    """Random weights: the arithmetic is under test, not its knowledge."""
    generator = torch.Generator().manual_seed(0)
    found, channels = {}, 3
    layers = iter(LAYERS)
    for width in (width for stage in STAGES for width in stage):
        layer, deviation = next(layers), (2 / (9 * channels)) ** 0.5
        kernel = deviation * torch.randn(width, channels, 3, 3, generator=generator)
        found[f"features.{layer}.weight"] = kernel
        found[f"features.{layer}.bias"] = 0.1 * torch.randn(width, generator=generator)
        channels = width
    return VGGFeatures(found)


@pytest.mark.filterwarnings("ignore")
def test_it_is_torchvisions_network(network):
    import torchvision

    theirs = torchvision.models.vgg16(weights=None).features[:30].eval()
    theirs.load_state_dict(network.stages.layers.state_dict())
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    normalise = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = theirs(normalise(images)).mean(dim=(2, 3))
    torch.testing.assert_close(network(2 * images - 1), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_pictures(network, monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    alone = np.concatenate([vgg_features(network, pictures[i : i + 1]) for i in range(5)])
    monkeypatch.setattr("facemorph_core.learning.nets.vgg_features.BATCH", 2)
    np.testing.assert_allclose(vgg_features(network, pictures), alone, rtol=1e-4, atol=1e-6)
    assert alone.shape == (5, 512)
    assert alone.dtype == np.float64
    assert vgg_features(network, pictures[:0]).shape == (0, 512)


def test_nothing_of_it_is_trained(network):
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_weights_that_are_absent_come_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path))
    with pytest.raises(WeightsUnavailable, match="vgg16") as caught:
        load_features()
    assert caught.value.hint == "facemorph-core weights fetch vgg16"


@pytest.mark.weights
def test_with_the_published_weights_noise_is_far_from_faces_of_one_kind():
    try:
        network = load_features()
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    x = np.mgrid[:32, :32][1]
    rng = np.random.default_rng(0)
    waves = [np.sin(x / rng.uniform(3, 5) + rng.uniform(0, 6)) for _ in range(12)]
    smooth = np.repeat(np.array(127 + 100 * np.array(waves), np.uint8)[..., None], 3, -1)
    noise = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    features = vgg_features(network, np.concatenate([smooth, noise]))
    alike = frechet_distance(features[:6], features[6:12])
    assert frechet_distance(features[:6], features[12:]) > 2 * alike


def test_the_missing_fid_is_a_sentence_of_its_own():
    assert fid_unavailable().startswith("FID is not measured")
    assert "FD-VGG16" in fid_unavailable()
