"""A round under DP-SGD: one gradient per photo, clipped, noised, charged before it leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import BudgetExhausted, ConfigError, LedgerError, TrainingDiverged
from facemorph_core.models import build_model
from facemorph_core.privacy import GaussianSteps, epsilon, read_ledger
from facemorph_core.training import private
from facemorph_core.training.private import planned_release, private_config, train_privately
from facemorph_core.training.trainer import Moment

AT = Moment(1.0, 0, 0)


@dataclass
class Faces:
    pixels: np.ndarray

    @classmethod
    def made(cls, count: int) -> Faces:
        return cls(np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))

    @property
    def size(self) -> int:
        return self.pixels.shape[1]

    def rows(self, split: str) -> np.ndarray:
        return np.arange(len(self.pixels) if split == "train" else 0)

    def images(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[rows]

    def landmarks(self, rows: np.ndarray) -> np.ndarray:
        return np.tile(mean_shape(self.size).astype(np.float32), (len(rows), 1, 1))


def run_config(kind: str = "vae", **privacy: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "test",
            "model": {"kind": kind, "image_size": 32, "width": 8, "latent_dim": 4},
            "training": {"batch_size": 4, "mirror": False, "learning_rate": 1e-3},
            "privacy": {"noise_multiplier": 1.0, "max_epsilon": 100.0, **privacy},
        }
    )


def private_trainer(config: RunConfig, *, expected_batch: float = 4.0, seed: int = 0):
    model = build_model(config.model, seed=1)
    for block in model.modules():  # residual branches switched on, so that all weights matter
        if hasattr(block, "conv_b"):
            torch.nn.init.normal_(
                block.conv_b.weight, std=0.05, generator=torch.Generator().manual_seed(7)
            )
    return private._PrivateTrainer(
        model,
        config,
        expected_batch=expected_batch,
        seed=0,
        draws=np.random.default_rng(seed),
        proximal_mu=0.0,
    )


def gradients(trainer) -> torch.Tensor:
    """(photos, weights): the per-photo gradients that are in memory."""
    per_weight = [p.grad_sample.flatten(1) for p in trainer.model.parameters()]
    return torch.cat(per_weight, dim=1)


@pytest.mark.parametrize("kind", ["ae", "vae"])
def test_per_photo_gradients_equal_a_slow_loop_of_single_photos(kind, monkeypatch):
    config, faces = run_config(kind), Faces.made(3)
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

    def fixed(posterior, generator):
        """The reparameterisation noise of photo i, whatever batch it is in."""
        rows = noise if len(posterior.mean) == 3 else noise[fixed.photo : fixed.photo + 1]
        return posterior.mean + (0.5 * posterior.log_var).exp() * rows

    monkeypatch.setattr("facemorph_core.models.base.Posterior.sample", fixed)
    trainer = private_trainer(config)
    trainer._per_photo_gradients(faces, np.arange(3), AT, 0)
    together = gradients(trainer)
    for photo in range(3):
        fixed.photo = photo
        alone = private_trainer(config)
        plain = alone.wrapped.to_standard_module().train()
        alone.wrapped = plain
        alone._per_photo_gradients(faces, np.array([photo]), AT, 0)
        expected = torch.cat([p.grad.flatten() for p in plain.parameters()])
        torch.testing.assert_close(together[photo], expected, rtol=1e-3, atol=1e-5)
        assert expected.norm() > 0


def test_no_photo_moves_the_sum_by_more_than_the_bound():
    config, faces = run_config(max_grad_norm=0.01), Faces.made(4)
    for photo in range(4):
        trainer = private_trainer(config)
        trainer._per_photo_gradients(faces, np.array([photo]), AT, 0)
        assert gradients(trainer).norm() > 0.01
        trainer.optimiser.clip_and_accumulate()
        clipped = torch.cat([p.summed_grad.flatten() for p in trainer.model.parameters()])
        assert clipped.norm() <= 0.01 * (1 + 1e-5)
        assert clipped.norm() > 0.0099


def test_a_small_gradient_is_not_stretched_to_the_bound():
    trainer = private_trainer(run_config(max_grad_norm=1e6))
    trainer._per_photo_gradients(Faces.made(1), np.arange(1), AT, 0)
    before = gradients(trainer)[0].clone()
    trainer.optimiser.clip_and_accumulate()
    clipped = torch.cat([p.summed_grad.flatten() for p in trainer.model.parameters()])
    torch.testing.assert_close(clipped, before)


@pytest.mark.parametrize(("noise", "bound"), [(1.0, 1.0), (2.0, 0.5), (0.7, 3.0)])
def test_the_noise_has_the_standard_deviation_that_is_accounted_for(noise, bound):
    """An empty batch releases nothing but noise: s C / (q n) in each weight."""
    trainer = private_trainer(run_config(noise_multiplier=noise, max_grad_norm=bound))
    private._no_gradients(trainer.model)
    assert trainer.optimiser.pre_step()
    released = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert len(released) > 200_000
    assert float(released.std()) * 4.0 == pytest.approx(noise * bound, rel=0.01)
    assert abs(float(released.mean())) < 0.01 * noise * bound


def test_every_step_draws_fresh_noise():
    trainer = private_trainer(run_config())
    steps = []
    for _ in range(2):
        private._no_gradients(trainer.model)
        trainer.optimiser.pre_step()
        steps.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]))
        trainer.optimiser.zero_grad()
    correlation = torch.corrcoef(torch.stack(steps))[0, 1]
    assert abs(float(correlation)) < 0.01


def test_the_physical_batch_changes_no_result():
    """One batch of five photos in pieces of two is one release, clipped photo by photo."""
    released = []
    for size in (2, 8):
        trainer = private_trainer(run_config("ae", max_physical_batch=size), seed=3)
        trainer._update = lambda at, model=trainer.model: released.append(
            torch.cat([p.grad.flatten() for p in model.parameters()])
        )
        trainer.step(Faces.made(5), np.arange(5), AT)
    assert len(released) == 2
    torch.testing.assert_close(*released, rtol=1e-4, atol=1e-6)


def test_an_empty_batch_is_a_step_like_any_other():
    trainer = private_trainer(run_config())
    before = [p.detach().clone() for p in trainer.model.parameters()]
    assert trainer.step(Faces.made(2), np.array([], dtype=np.int64), AT) == {}
    assert all(
        not torch.equal(p, b) for p, b in zip(trainer.model.parameters(), before, strict=True)
    )


# --- a whole round ---------------------------------------------------------------------------


def test_a_round_trains_reports_only_what_is_covered_and_charges_the_ledger(tmp_path: Path):
    config, faces, ledger = run_config(), Faces.made(10), tmp_path / "privacy.jsonl"
    model = build_model(config.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outcome = train_privately(model, faces, config, epochs=2, seed=0, ledger=ledger)
    assert outcome.examples == 10
    assert {*outcome.metrics} == {"epsilon", "delta", "steps", "seconds"}
    event = GaussianSteps(1.0, 0.4, 6)
    assert list(read_ledger(ledger)) == [event]
    assert outcome.metrics["epsilon"] == epsilon([event], 1e-5)
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert not any(hasattr(p, "grad_sample") for p in model.parameters())


def test_epsilon_is_composed_over_rounds(tmp_path: Path):
    config, faces, ledger = run_config(), Faces.made(6), tmp_path / "privacy.jsonl"
    model = build_model(config.model)
    spent = [
        train_privately(model, faces, config, epochs=1, seed=r, ledger=ledger).metrics["epsilon"]
        for r in range(3)
    ]
    assert spent == sorted(spent)
    assert spent[0] < spent[2]
    assert spent[2] == epsilon([GaussianSteps(1.0, 4 / 6, 2)] * 3, 1e-5)


def test_an_exhausted_budget_refuses_before_a_photo_is_read(tmp_path: Path):
    class Watched(Faces):
        def images(self, rows: np.ndarray) -> np.ndarray:
            raise AssertionError("a photo was read")

    config, ledger = run_config(max_epsilon=0.5), tmp_path / "privacy.jsonl"
    model = build_model(config.model)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(BudgetExhausted) as caught:
        train_privately(model, Watched.made(6), config, epochs=1, seed=0, ledger=ledger)
    assert caught.value.spent == 0
    assert not ledger.exists()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_weights_do_not_leave_if_the_charge_cannot_be_written(tmp_path: Path, monkeypatch):
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facemorph_core.privacy.ledger._append", full_disk)
    config = run_config()
    model = build_model(config.model)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(LedgerError, match="nothing is released"):
        train_privately(
            model, Faces.made(4), config, epochs=1, seed=0, ledger=tmp_path / "privacy.jsonl"
        )
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_a_diverged_round_charges_and_releases_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(private, "learning_rate", lambda config, share: float("inf"))
    config, ledger = run_config(), tmp_path / "privacy.jsonl"
    model = build_model(config.model)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(TrainingDiverged):
        train_privately(model, Faces.made(4), config, epochs=1, seed=0, ledger=ledger)
    assert not ledger.exists()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_the_runs_seed_decides_neither_the_photos_nor_the_noise(tmp_path: Path):
    config, faces = run_config(), Faces.made(6)

    def weights(**options: object) -> torch.Tensor:
        model = build_model(config.model)
        ledger = tmp_path / json.dumps(len(list(tmp_path.iterdir())))
        train_privately(model, faces, config, epochs=1, seed=0, ledger=ledger, **options)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert not torch.equal(weights(), weights())
    fixed = [weights(draws=np.random.default_rng(1)) for _ in range(2)]
    assert torch.equal(*fixed)


@pytest.mark.parametrize(("examples", "rate", "steps"), [(4, 1.0, 3), (3, 1.0, 3), (10, 0.4, 9)])
def test_the_planned_release_follows_from_the_count_of_photos(examples, rate, steps):
    config = run_config()
    planned = planned_release(config, private_config(config), examples=examples, epochs=3)
    assert planned == GaussianSteps(1.0, rate, steps)


def test_private_training_needs_a_privacy_section(tmp_path: Path):
    config = run_config().model_copy(update={"privacy": None})
    with pytest.raises(ConfigError, match="privacy"):
        train_privately(
            build_model(config.model),
            Faces.made(2),
            config,
            epochs=1,
            seed=0,
            ledger=tmp_path / "l",
        )
