"""A model and a loss that the library does not know go in by one line each."""

from __future__ import annotations

from typing import Literal, get_args

import pytest
import torch
from torch import nn

from facemorph_core.bundle.read import open_bundle
from facemorph_core.config.schema import (
    AutoencoderConfig,
    LossConfig,
    ModelConfig,
    NonNegative,
    RunConfig,
)
from facemorph_core.learning.federated import load_shared_weights, shared_weights
from facemorph_core.learning.models import Autoencoder, Reconstruction, build_model
from facemorph_core.learning.models.build import MODELS
from facemorph_core.learning.release import write_bundle
from facemorph_core.learning.training.batches import Batch
from facemorph_core.learning.training.objective import (
    TERMS,
    FeatureNets,
    reconstruction_terms,
    total,
    weights_at,
)
from facemorph_core.learning.training.streams import stream

SIZE, NUMBERS = 32, 6


class LinearConfig(AutoencoderConfig):
    """One matrix each way."""

    kind: Literal["linear"] = "linear"
    latent_dim: int = NUMBERS
    image_size: int = SIZE


class ToPixels(nn.Linear):
    """(B, D) -> (B, 3, S, S)."""

    def forward(self, input):
        side = round((self.out_features / 3) ** 0.5)
        return super().forward(input).view(-1, 3, side, side)


class Linear(Autoencoder):
    def __init__(self, image_size: int, latent_dim: int) -> None:
        values = 3 * image_size**2
        super().__init__(
            nn.Sequential(nn.Flatten(), nn.Linear(values, latent_dim)),
            ToPixels(latent_dim, values),
            image_size=image_size,
            latent_dim=latent_dim,
        )

    def code(self, images):
        return self.encoder(images)

    def forward(self, images, generator):
        z = self.code(images)
        return Reconstruction(self.decoder(z), z, None)


class OwnLoss(LossConfig):
    worst: NonNegative = 0.25
    """Largest error of each image."""


class OwnRun(RunConfig):
    name: str = "own"
    model: LinearConfig = LinearConfig()
    loss: OwnLoss = OwnLoss()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Autoencoder:
    monkeypatch.setitem(MODELS, LinearConfig, lambda c: Linear(c.image_size, c.network_numbers))
    return build_model(LinearConfig(), seed=3)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_every_kind_of_the_schema_has_its_line():
    assert set(get_args(get_args(ModelConfig)[0])) == set(MODELS)


def test_a_kind_without_a_line_is_refused_by_name():
    with pytest.raises(ValueError, match="no model is known for LinearConfig, only for AEConfig"):
        build_model(LinearConfig())


def test_an_own_model_starts_from_its_seed_alone(model):
    again, other = build_model(LinearConfig(), seed=3), build_model(LinearConfig(), seed=4)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(model.encoder[1].weight, other.encoder[1].weight)


def test_a_layer_whose_start_nobody_knows_is_refused_and_not_left_as_it_lay_in_memory(monkeypatch):
    class Odd(Linear):
        def __init__(self) -> None:
            super().__init__(SIZE, NUMBERS)
            self.encoder.append(nn.PReLU())

    monkeypatch.setitem(MODELS, LinearConfig, lambda _: Odd())
    with pytest.raises(ValueError, match="no start is known for the weights of PReLU"):
        build_model(LinearConfig())


def test_an_own_model_travels_as_encoder_and_decoder(model):
    twin = build_model(LinearConfig(), seed=4)
    load_shared_weights(twin, shared_weights(model))
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name])


def test_an_own_model_becomes_a_bundle_that_draws_what_it_draws(model, images, tmp_path):
    out = write_bundle(
        model, tmp_path / "own.facemorph", config=OwnRun().model_dump(), training={}, metrics={}
    )
    bundle = open_bundle(out)
    assert bundle.manifest.kind == "linear"
    assert "an autoencoder of the kind 'linear'" in bundle.card
    pixels = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    codes = bundle.encode(pixels)
    with torch.no_grad():
        seen = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        drawn = ((model.decode(model.code(seen)) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert codes.shape == (4, NUMBERS)
    assert abs(bundle.decode(codes) - drawn).max() < 1.5


def worst(at):
    return (at.made.images - at.seen.images).abs().amax(dim=(1, 2, 3))


def test_every_term_has_its_weight_in_the_schema():
    assert set(TERMS) <= set(LossConfig.model_fields)


def test_an_own_term_is_weighed_and_leads_the_gradient(model, images, monkeypatch):
    monkeypatch.setitem(TERMS, "worst", worst)
    config = OwnRun()
    generator = stream(0, "crop")

    def values() -> dict[str, torch.Tensor]:
        made = model(images, generator)
        return reconstruction_terms(
            made, Batch(images, 1.0), config, nets=FeatureNets(), crops=generator
        )

    terms, weights = values(), weights_at(config.loss, 0.5, latent_dim=NUMBERS)
    assert list(terms) == ["l1", "latent_l2", "worst"]  # no posterior, so no KL
    assert weights["worst"] == 0.25
    torch.testing.assert_close(
        total(terms, weights), terms["l1"] + 1e-4 * terms["latent_l2"] + 0.25 * terms["worst"]
    )
    whole = gradient(model, total(values(), weights).mean())
    rest = gradient(model, total(values(), weights | {"worst": 0.0}).mean())
    torch.testing.assert_close(whole - rest, 0.25 * gradient(model, values()["worst"].mean()))


def test_a_run_of_before_an_own_term_is_what_it_was(model, images, monkeypatch):
    before = weights_at(LossConfig(), 0.5, latent_dim=NUMBERS)
    monkeypatch.setitem(TERMS, "worst", worst)
    assert weights_at(LossConfig(), 0.5, latent_dim=NUMBERS) == before | {"worst": 0.0}
    made, seen, crops = model(images, stream(0, "posterior")), Batch(images, 1.0), stream(0, "crop")
    config = RunConfig(name="x")
    terms = reconstruction_terms(made, seen, config, nets=FeatureNets(), crops=crops)
    assert "worst" not in terms


def gradient(model: Autoencoder, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([each.ravel() for each in torch.autograd.grad(loss, [*model.parameters()])])


def test_a_term_without_weight_is_not_computed(model, images, monkeypatch):
    def refuse(_):
        raise AssertionError("computed")

    monkeypatch.setitem(TERMS, "worst", refuse)
    config = OwnRun(loss=OwnLoss(worst=0.0))
    made = model(images, stream(0, "posterior"))
    seen = Batch(images, 1.0)
    terms = reconstruction_terms(made, seen, config, nets=FeatureNets(), crops=stream(0, "crop"))
    assert "worst" not in terms
