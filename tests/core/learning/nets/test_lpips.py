import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from facemorph_core.errors import MissingExtra, WeightsUnavailable
from facemorph_core.learning import weights
from facemorph_core.learning.nets.lpips import LAYERS, LPIPS, load_lpips, lpips_steps
from facemorph_core.learning.nets.lpips import lpips as distances
from facemorph_core.learning.nets.lpips_heads import HEADS_SHA256, heads_file, load_heads

SHAPES = ((64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3))


@pytest.fixture(scope="module")
def features() -> dict[str, torch.Tensor]:
    """An AlexNet with random weights: the arithmetic is under test, not its knowledge."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for layer, shape in zip(LAYERS, SHAPES, strict=True):
        deviation = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        found[f"features.{layer}.weight"] = deviation * torch.randn(shape, generator=generator)
        found[f"features.{layer}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return found


@pytest.fixture(scope="module")
def heads() -> list[torch.Tensor]:
    return load_heads("alex")


@pytest.fixture(scope="module")
def metric(features, heads) -> LPIPS:
    return LPIPS(features, heads)


def images(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(64, 64), (128, 128), (96, 80)])
def test_it_is_the_authors_distance(metric, features, size):
    import lpips

    theirs = lpips.LPIPS(net="alex", pnet_rand=True, pretrained=True, verbose=False)
    state = theirs.net.state_dict()
    names = [f"slice{i}.{layer}" for i, layer in enumerate(LAYERS, 1)]
    for name, layer in zip(names, LAYERS, strict=True):
        for part in ("weight", "bias"):
            state[f"{name}.{part}"].copy_(features[f"features.{layer}.{part}"])
    a, b = images(0, 3, 3, *size), images(1, 3, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(metric(a, b), theirs(a, b).flatten(), rtol=1e-4, atol=1e-6)


def test_identical_images_have_no_distance_and_order_does_not_matter(metric):
    a, b = images(0, 2, 3, 64, 64), images(1, 2, 3, 64, 64)
    torch.testing.assert_close(metric(a, a), torch.zeros(2))
    torch.testing.assert_close(metric(a, b), metric(b, a))
    assert (metric(a, b) > 0).all()


def test_a_batch_is_its_pairs(metric, monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 5, 64, 64, 3), dtype=np.uint8)
    alone = np.concatenate([distances(metric, a[i : i + 1], b[i : i + 1]) for i in range(5)])
    monkeypatch.setattr("facemorph_core.learning.nets.lpips.BATCH", 2)
    np.testing.assert_allclose(distances(metric, a, b), alone, rtol=1e-4)
    assert distances(metric, a, b).dtype == np.float64
    assert distances(metric, a[:0], b[:0]).shape == (0,)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_steps_of_a_sequence_are_those_of_its_pairs(metric, monkeypatch, count):
    monkeypatch.setattr("facemorph_core.learning.nets.lpips.BATCH", 2)
    rng = np.random.default_rng(count)
    frames = rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    expected = distances(metric, frames[:-1], frames[1:])
    np.testing.assert_allclose(lpips_steps(metric, frames), expected, rtol=1e-5)


def test_pixels_are_read_as_values_from_minus_one_to_one(metric):
    a, b = (np.full((1, 64, 64, 3), value, np.uint8) for value in (0, 255))
    expected = metric(-torch.ones(1, 3, 64, 64), torch.ones(1, 3, 64, 64))
    np.testing.assert_allclose(distances(metric, a, b), expected.numpy(), rtol=1e-5)


def test_nothing_of_it_is_trained(metric):
    assert list(metric.parameters()) == []


@pytest.mark.parametrize(
    ("network", "widths"),
    [("alex", [64, 192, 384, 256, 256]), ("vgg", [64, 128, 256, 512, 512])],
)
def test_the_heads_are_the_published_ones_and_not_negative(network, widths):
    digest = hashlib.sha256(heads_file(network).read_bytes()).hexdigest()
    assert digest == HEADS_SHA256[network]
    heads = load_heads(network)
    assert [head.shape for head in heads] == [(1, width, 1, 1) for width in widths]
    assert all((head >= 0).all() for head in heads)


def test_weights_that_are_absent_come_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path))
    with pytest.raises(WeightsUnavailable, match="alexnet") as caught:
        load_lpips()
    assert caught.value.hint == "facemorph-core weights fetch alexnet"


def test_other_heads_are_refused(monkeypatch, tmp_path, features):
    from safetensors.torch import save_file

    save_file(features, tmp_path / "alexnet.safetensors")
    (tmp_path / "alex.pth").write_bytes(b"something else")
    monkeypatch.setattr(
        "facemorph_core.learning.weights.find", lambda name: tmp_path / f"{name}.safetensors"
    )
    monkeypatch.setattr(
        "facemorph_core.learning.nets.lpips_heads.heads_file", lambda _: tmp_path / "alex.pth"
    )
    with pytest.raises(WeightsUnavailable, match=r"not the file of LPIPS 0\.1"):
        load_lpips()


def test_a_missing_package_is_a_missing_extra(monkeypatch):
    monkeypatch.setattr("facemorph_core.learning.nets.lpips_heads.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="LPIPS needs the optional part 'train'"):
        heads_file("vgg")


def test_the_lpips_package_is_not_imported():
    code = (
        "import sys; from facemorph_core.learning.nets.lpips_heads import load_heads; "
        "load_heads('vgg'); "
        "sys.exit('lpips' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.weights
def test_with_the_published_weights_it_is_the_published_distance():
    """Golden: these two patterns under the package `lpips` 0.1.4 itself, float32, with the
    AlexNet of the cache copied into its trunk as in the first test of this file."""
    try:
        weights.find("alexnet")
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    metric = load_lpips()
    first_row = metric.get_buffer("kernel0")[0, 0, 0, :3]
    torch.testing.assert_close(first_row, torch.tensor([0.1186, 0.0941, 0.0954]), rtol=0, atol=1e-4)
    y, x = np.mgrid[:64, :64]
    stripes = np.repeat(((x // 4) % 2 * 255).astype(np.uint8)[..., None], 3, -1)[None]
    checks = np.repeat((((x + y) // 8) % 2 * 255).astype(np.uint8)[..., None], 3, -1)[None]
    assert distances(metric, stripes, stripes)[0] == 0
    assert distances(metric, stripes, checks)[0] == pytest.approx(0.59567, abs=1e-4)
