"""The linear start: principal components, however the faces are split among sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.schema import RunConfig
from facemorph_core.models import build_model
from facemorph_core.models.blocks import LINEAR_GAIN
from facemorph_core.training.linear import fit_linear, linear_pass, orthonormal, settled

NUMBERS = 6


@dataclass
class Faces:
    pixels: np.ndarray

    @classmethod
    def made(cls, count: int = 60) -> Faces:
        """Faces of few smooth patterns with falling strengths, and a little grain."""
        rng = np.random.default_rng(0)
        coarse = torch.from_numpy(rng.normal(size=(12, 3, 4, 4)))
        patterns = torch.nn.functional.interpolate(coarse, size=32, mode="bicubic").numpy()
        weights = rng.normal(size=(count, 12)) * np.geomspace(40, 1, 12)
        values = 127.5 + np.einsum("nk,kchw->nhwc", weights, patterns)
        noisy = values + rng.normal(scale=2, size=values.shape)
        return cls(np.clip(noisy, 0, 255).round().astype(np.uint8))

    @property
    def size(self) -> int:
        return 32

    def rows(self, split: str) -> np.ndarray:
        return np.arange(len(self.pixels) if split == "train" else 0)

    def images(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[rows]

    def landmarks(self, rows: np.ndarray) -> np.ndarray:
        return np.tile(mean_shape(32).astype(np.float32), (len(rows), 1, 1))

    @property
    def small(self) -> torch.Tensor:
        """What the decoder's linear path draws, (n, p) in [-1, 1]."""
        images = torch.from_numpy(self.pixels).permute(0, 3, 1, 2).double() / 127.5 - 1
        return torch.nn.functional.avg_pool2d(images, 2).flatten(1)


def run_config(**sections: object) -> RunConfig:
    defaults: dict[str, object] = {
        "name": "test",
        "model": {"kind": "ae", "image_size": 32, "width": 8, "latent_dim": NUMBERS},
        "training": {"linear_start": 8, "mirror": False, "precision": "float32"},
    }
    return RunConfig.model_validate(defaults | sections)


def principal(small: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean, and the slow obvious principal components as columns times their deviations."""
    mean = small.mean(dim=0)
    _, scales, axes = torch.linalg.svd(small - mean, full_matrices=False)
    return mean, axes[:NUMBERS].T * scales[:NUMBERS] / len(small) ** 0.5


def decoder_of(model: torch.nn.Module) -> torch.Tensor:
    return (model.state_dict()["decoder.linear.weight"] * LINEAR_GAIN).double()


def test_it_finds_the_principal_components():
    faces, config = Faces.made(), run_config()
    model = build_model(config.model)
    fit_linear(model, faces, config)
    mean, components = principal(faces.small)
    found = decoder_of(model)
    torch.testing.assert_close(
        model.state_dict()["decoder.linear.bias"].double(), mean, atol=1e-4, rtol=0
    )
    # each of them up to its sign
    aligned = found * torch.sign((found * components).sum(dim=0))
    assert (aligned - components).norm() < 0.02 * components.norm()


def test_codes_are_white_and_reconstruct_as_well_as_components_can():
    faces, config = Faces.made(), run_config()
    model = build_model(config.model)
    fit_linear(model, faces, config)
    with torch.no_grad():
        images = torch.from_numpy(faces.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        codes = model.code(images)
        drawn = torch.nn.functional.avg_pool2d(model.decode(codes), 2).flatten(1).double()
    torch.testing.assert_close(
        torch.cov(codes.T, correction=0), torch.eye(NUMBERS), atol=0.2, rtol=0
    )
    mean, components = principal(faces.small)
    axes = components / components.norm(dim=0)
    best = mean + (faces.small - mean) @ axes @ axes.T
    assert (drawn - faces.small).square().mean() < 1.3 * (best - faces.small).square().mean()


@pytest.mark.parametrize("cuts", [[30], [7, 19], [10, 20, 30, 40, 50]])
def test_sites_together_find_what_one_place_finds(cuts):
    """The examples-weighted mean of the sites' passes is the pass over all faces."""
    faces, config = Faces.made(), run_config()
    sites = [Faces(part) for part in np.split(faces.pixels, cuts)]
    central, shared = build_model(config.model), build_model(config.model)
    for number in range(1, 4):
        linear_pass(central, faces, config, seed=0, number=number)
        central.load_state_dict(settled(central.state_dict()))
        sent = []
        for site in sites:
            local = build_model(config.model)
            local.load_state_dict(shared.state_dict())
            share = linear_pass(local, site, config, seed=0, number=number).examples / 60
            sent.append((share, local.state_dict()))
        merged = {
            name: sum(share * weights[name] for share, weights in sent) for name in sent[0][1]
        }
        shared.load_state_dict(settled(merged))
    for name, value in central.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, atol=2e-3, rtol=2e-3)


def test_the_pass_touches_only_the_decoders_linear_path():
    faces, config = Faces.made(), run_config()
    model = build_model(config.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    linear_pass(model, faces, config, seed=0, number=1)
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"decoder.linear.weight", "decoder.linear.bias"}


def test_the_orthonormal_basis_leaves_an_orthogonal_one_alone_and_has_no_free_sign():
    columns = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).double()
    basis = orthonormal(columns)
    torch.testing.assert_close(basis.T @ basis, torch.eye(4).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(orthonormal(basis), basis, atol=1e-9, rtol=0)
    torch.testing.assert_close(orthonormal(-columns), -basis, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"privacy": {"noise_multiplier": 1.0}}, "DP-SGD does not cover it"),
        ({"federation": {"rounds": 8}}, "leaves none"),
        ({"federation": {"strategy": {"kind": "fedadam"}}}, "needs a weighted mean"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(sections, words):
    with pytest.raises(ValidationError, match=words):
        run_config(**sections)
