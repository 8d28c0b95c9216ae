from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from facemorph_core.errors import WeightsUnavailable
from facemorph_core.learning.losses.perceptual import VGGPerceptual, random_square
from facemorph_core.learning.nets.lpips_heads import load_heads
from facemorph_core.learning.weights import find

LAYERS = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128)}
LAYERS |= {10: (256, 128), 12: (256, 256), 14: (256, 256)}
LAYERS |= {17: (512, 256)} | dict.fromkeys((19, 21, 24, 26, 28), (512, 512))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of VGG16's names and shapes with random numbers in it."""
    generator, weights = seeded(0), {}
    for layer, (outputs, inputs) in LAYERS.items():
        scale = (2 / (9 * inputs)) ** 0.5
        kernel = torch.randn(outputs, inputs, 3, 3, generator=generator) * scale
        weights[f"features.{layer}.weight"] = kernel
        weights[f"features.{layer}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(2, 2, 3, 64, 64, generator=seeded(1)) * 2 - 1
    return images[0], images[1]


def test_features_are_those_of_torchvisions_vgg16(made_up, pair):
    torchvision = pytest.importorskip("torchvision")
    vgg = torchvision.models.vgg16(weights=None).features[:30]
    from safetensors.torch import load_file

    weights = {k.removeprefix("features."): v for k, v in load_file(made_up).items()}
    vgg.load_state_dict(weights)
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    h = ((pair[0] + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = {}
    with torch.no_grad():
        for number, layer in enumerate(vgg):
            h = layer(h)
            expected[number] = h.clone()
        ours = VGGPerceptual(made_up, 64).features(pair[0])
    for got, number in zip(ours, (3, 8, 15), strict=True):
        torch.testing.assert_close(got, expected[number])


@pytest.mark.filterwarnings("ignore")
def test_with_heads_it_is_the_authors_lpips(made_up, pair):
    import lpips
    from safetensors.torch import load_file

    theirs = lpips.LPIPS(net="vgg", pnet_rand=True, pretrained=True, verbose=False)
    state = {name.split(".", 1)[1]: value for name, value in theirs.net.state_dict().items()}
    for name, value in load_file(made_up).items():
        state[name.removeprefix("features.")].copy_(value)
    ours = VGGPerceptual(made_up, 64, load_heads("vgg"))
    expected = theirs(*pair).flatten()
    torch.testing.assert_close(ours(*pair, seeded(0)), expected, rtol=1e-3, atol=1e-5)


def test_dark_features_give_finite_gradients(made_up):
    """Where every feature is 0 there is no direction, and no gradient either."""
    distance = VGGPerceptual(made_up, 32, load_heads("vgg"))
    for layer in distance.features.layers:
        if isinstance(layer, torch.nn.Conv2d):
            layer.bias.fill_(-100)
    made = torch.zeros(2, 3, 32, 32, requires_grad=True)
    found = distance(made, torch.ones(2, 3, 32, 32), seeded(0))
    found.sum().backward()
    assert found.tolist() == [0, 0]
    assert bool(made.grad.isfinite().all())


@pytest.fixture(scope="module", params=["features", "lpips"])
def distance(request: pytest.FixtureRequest, made_up: Path) -> VGGPerceptual:
    return VGGPerceptual(made_up, 64, load_heads("vgg") if request.param == "lpips" else ())


def test_equal_images_are_at_distance_zero_and_the_order_does_not_matter(distance, pair):
    assert distance(pair[0], pair[0], seeded(0)).tolist() == [0, 0]
    torch.testing.assert_close(
        distance(*pair, seeded(0)), distance(pair[1], pair[0], seeded(0)), rtol=1e-5, atol=1e-6
    )


def test_every_image_is_judged_by_itself(distance, pair):
    both = distance(*pair, seeded(0))
    torch.testing.assert_close(distance(pair[0][:1], pair[1][:1], seeded(0)), both[:1])


def test_gradients_reach_the_image_and_not_the_frozen_net(made_up, pair):
    distance = VGGPerceptual(made_up, 32)
    made = pair[0].clone().requires_grad_()
    distance(made, pair[1], seeded(0)).sum().backward()
    seen = made.grad.abs().amax(dim=(0, 1)) > 0
    assert int(seen.any(dim=0).sum()) <= 32
    assert seen.any()
    assert not any(p.requires_grad for p in distance.parameters())


def test_it_runs_under_bfloat16_autocast(made_up, pair):
    distance = VGGPerceptual(made_up, 64)
    exact = distance(*pair, seeded(0))
    with torch.autocast("cpu", torch.bfloat16):
        rough = distance(*pair, seeded(0))
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0)


def test_squares_lie_inside_and_reach_every_corner():
    squares = [random_square(34, 32, seeded(seed)) for seed in range(200)]
    assert {(top, left) for top, left, _ in squares} == {(i, j) for i in range(3) for j in range(3)}
    assert {side for _, _, side in squares} == {32}
    assert random_square(32, 64, seeded(0)) == (0, 0, 32)


@pytest.mark.weights
def test_the_real_vgg16_finds_blur_worse_than_a_shift_in_brightness():
    try:
        path = find("vgg16")
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    distance = VGGPerceptual(path, 64)
    face = torch.rand(1, 3, 8, 8, generator=seeded(4)) * 2 - 1
    sharp = torch.nn.functional.interpolate(face, size=(64, 64), mode="nearest")
    blurred = torch.nn.functional.avg_pool2d(sharp, 9, 1, 4, count_include_pad=False)
    brighter = sharp + (blurred - sharp).abs().mean()
    assert distance(sharp, blurred, seeded(0)) > 1.5 * distance(sharp, brighter, seeded(0))
