"""One contract for all kinds of autoencoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facemorph_core.config.schema import AEConfig, ModelConfig, VAEConfig, VAEGANConfig
from facemorph_core.learning.models import (
    VAE,
    Autoencoder,
    Posterior,
    build_discriminator,
    build_model,
    count_parameters,
)
from facemorph_core.learning.models.blocks import ResidualBlock

KINDS = [AEConfig, VAEConfig, VAEGANConfig]
SMALL = {"image_size": 32, "width": 8, "latent_dim": 16}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.model_fields["kind"].default)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return request.param(**SMALL)


@pytest.fixture
def model(config: ModelConfig) -> Autoencoder:
    return awake(build_model(config, seed=1))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 32, 32, generator=seeded(0)) * 2 - 1


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def awake(model: Autoencoder) -> Autoencoder:
    """With the residual branches switched on, as after some training."""
    for block in model.modules():
        if isinstance(block, ResidualBlock):
            nn.init.normal_(block.conv_b.weight, std=0.05, generator=seeded(7))
    return model


def test_a_face_becomes_a_code_and_a_code_becomes_a_face(model, images):
    code = model.code(images)
    made = model.decode(code)
    assert code.shape == (4, 16)
    assert made.shape == images.shape
    assert made.abs().max() <= 1
    assert (model.image_size, model.latent_dim) == (32, 16)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_every_size_of_the_schema_fits(size):
    model = build_model(AEConfig(image_size=size, width=8, latent_dim=8))
    assert model.decode(model.code(torch.zeros(1, 3, size, size))).shape == (1, 3, size, size)


def test_an_image_of_another_size_is_refused_when_the_model_is_built():
    with pytest.raises(ValueError, match="multiple of 32, got 40"):
        VAE(40, 8, 8)


def test_even_huge_codes_give_pixels_in_range(model):
    made = model.decode(1e4 * torch.randn(2, 16, generator=seeded(3)))
    assert made.isfinite().all()
    assert made.abs().max() <= 1


def test_every_parameter_gets_a_gradient(model, images):
    made = model(images, seeded(0))
    loss = (made.images - images).square().mean() + made.code.square().mean()
    if made.posterior is not None:
        loss = loss + made.posterior.kl_to_standard_normal().mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_no_layer_lets_one_face_see_another(model, images):
    model.train()
    torch.testing.assert_close(model.code(images[:1]), model.code(images)[:1], rtol=1e-4, atol=1e-5)
    codes = torch.randn(4, 16, generator=seeded(2))
    torch.testing.assert_close(
        model.decode(codes[:1]), model.decode(codes)[:1], rtol=1e-4, atol=1e-5
    )


def test_saved_and_loaded_weights_give_the_same_numbers(model, config, images):
    other = build_model(config, seed=99)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.code(images), model.code(images))


def test_only_encoder_and_decoder_have_state_and_all_of_it_is_float32_parameters(model):
    assert {name.partition(".")[0] for name in model.state_dict()} == {"encoder", "decoder"}
    assert not list(model.buffers())
    assert {*model.state_dict()} == {name for name, _ in model.named_parameters()}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_one_generator_state_gives_one_reconstruction(model, images):
    first, again, other = (model(images, seeded(s)).images for s in (5, 5, 6))
    assert torch.equal(first, again)
    is_random = model(images, seeded(5)).posterior is not None
    assert torch.equal(first, other) != is_random


def test_starting_weights_depend_on_the_seed_alone_and_touch_no_global_stream(config):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (build_model(config, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.encoder.head.weight, other.encoder.head.weight)


def test_every_parameter_has_a_starting_value(config):
    """Memory that nothing wrote to could hold anything; two builds would then differ."""
    for parameter in build_model(config).parameters():
        assert parameter.isfinite().all()


def test_residual_branches_start_at_zero():
    block = next(
        m for m in build_model(AEConfig(**SMALL)).modules() if isinstance(m, ResidualBlock)
    )
    x = torch.randn(2, 8, 8, 8, generator=seeded(0))
    assert torch.equal(block(x), x)


def test_an_untrained_decoder_paints_nearly_grey():
    model = build_model(AEConfig(**SMALL))
    assert model.decode(torch.randn(8, 16, generator=seeded(0))).abs().mean() < 0.2


def test_the_default_model_has_about_eighteen_million_parameters():
    with torch.device("meta"):
        assert count_parameters(VAE(128, 128, 64)) == pytest.approx(18.0e6, rel=0.01)


def test_the_mean_of_the_posterior_is_the_code(images):
    model = build_model(VAEConfig(**SMALL))
    assert torch.equal(model.encode(images).mean, model.code(images))


def test_a_draw_from_the_posterior_has_its_moments():
    posterior = Posterior(torch.full((20_000, 2), 3.0), torch.full((20_000, 2), 1.0))
    draws = posterior.sample(seeded(0))
    torch.testing.assert_close(draws.mean(dim=0), torch.full((2,), 3.0), atol=0.05, rtol=0)
    torch.testing.assert_close(draws.var(dim=0).log(), torch.ones(2), atol=0.05, rtol=0)


def test_the_discriminator_scores_patches_of_each_image_by_itself(images):
    discriminator = build_discriminator(VAEGANConfig(**SMALL, discriminator_width=8))
    scores = discriminator(images)
    assert scores.shape == (4, 2, 2)
    torch.testing.assert_close(discriminator(images[:1]), scores[:1], rtol=1e-4, atol=1e-5)
    assert "discriminator" not in "".join(build_model(VAEGANConfig(**SMALL)).state_dict())
