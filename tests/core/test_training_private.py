"""A round under DP-SGD: what one photo can do, and that it is charged before it is computed."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import (
    BudgetExhausted,
    ConfigError,
    LedgerError,
    LimitsExceeded,
    TrainingDiverged,
    WeightsUnavailable,
)
from facemorph_core.models import Autoencoder, build_model
from facemorph_core.privacy import (
    GaussianSteps,
    Heads,
    PlainRelease,
    SiteLedger,
    SiteLimits,
    epsilon,
    photos_of,
)
from facemorph_core.privacy.secret import Secret
from facemorph_core.training import private
from facemorph_core.training.private import planned_release, private_config, train_privately
from facemorph_core.training.private_scores import RANGES, score_privately
from facemorph_core.training.trainer import Moment
from facemorph_core.weights import find

AT = Moment(1.0, 0, 0)
KEY = bytes(32)
LIMITS = SiteLimits.of_a_simulation()


@dataclass
class Faces:
    pixels: np.ndarray
    val: int = 0
    """So many of the last ones are kept aside."""
    people: list[str] = field(default_factory=list)
    source_digests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.people = self.people or [f"person {i}" for i in range(len(self.pixels))]
        self.source_digests = self.source_digests or [""] * len(self.pixels)

    @classmethod
    def made(cls, count: int, *, size: int = 32, val: int = 0) -> Faces:
        rng = np.random.default_rng(0)
        return cls(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8), val)

    @property
    def size(self) -> int:
        return self.pixels.shape[1]

    def rows(self, split: str) -> np.ndarray:
        every = np.arange(len(self.pixels))
        return (
            every[: len(every) - self.val] if split == "train" else every[len(every) - self.val :]
        )

    def images(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[rows]

    def landmarks(self, rows: np.ndarray) -> np.ndarray:
        away = np.random.default_rng(1).normal(size=(len(self.pixels), 68, 2)) * self.size / 64
        return (mean_shape(self.size) + away)[rows].astype(np.float32)


def run_config(kind: str = "vae", **sections: dict[str, object]) -> RunConfig:
    model = {"kind": kind, "image_size": 32, "width": 8, "latent_dim": 28}
    training = {"batch_size": 4, "mirror": False, "learning_rate": 1e-3}
    privacy = {"noise_multiplier": 1.0, "max_epsilon": 100.0}
    return RunConfig.model_validate(
        {
            "name": "test",
            "model": {**model, **sections.get("model", {})},
            "training": {**training, **sections.get("training", {})},
            "privacy": {**privacy, **sections.get("privacy", {})},
            "loss": sections.get("loss", {}),
        }
    )


def awake(config: RunConfig) -> Autoencoder:
    """A model whose residual branches are switched on, so that all its weights matter."""
    model = build_model(config.model, seed=1)
    generator = torch.Generator().manual_seed(7)
    for block in model.modules():
        if hasattr(block, "conv_b"):
            torch.nn.init.normal_(block.conv_b.weight, std=0.05, generator=generator)
    return model


def private_trainer(
    config: RunConfig, model: Autoencoder | None = None, *, key: bytes = KEY
) -> private.PrivateTrainer:
    return private.PrivateTrainer(
        model or awake(config), config, expected_batch=4.0, secret=Secret(key), proximal_mu=0.0
    )


def gradients(trainer) -> torch.Tensor:
    """(photos, weights): the per-photo gradients that are in memory."""
    return torch.cat([p.grad_sample.flatten(1) for p in trainer.model.parameters()], dim=1)


def clipped_sum(config: RunConfig, faces: Faces, rows: np.ndarray, model=None) -> torch.Tensor:
    """What a step of the real trainer would release of these rows, without the noise."""
    trainer, found = private_trainer(config, model), []
    trainer.optimiser.noise_multiplier = 0.0
    trainer._update = lambda at: found.extend(p.grad.flatten() for p in trainer.model.parameters())
    trainer.step(faces, rows, AT)
    return torch.cat(found) * 4.0


@pytest.fixture
def ledger(tmp_path: Path) -> SiteLedger:
    return SiteLedger(tmp_path / "state" / "privacy.jsonl", Heads(tmp_path / "heads"))


# --- one photo moves the sum by no more than the bound ----------------------------------------

LOSSES = {
    "l1": {"l1": 1.0},
    "squared, inside the face": {"l1": 0.0, "squared": 1.0, "face": 3.0},
    "vgg": {"l1": 0.1, "perceptual": 1.0, "perceptual_crop": 32},
    "lpips": {"l1": 0.1, "perceptual": 1.0, "perceptual_distance": "lpips", "perceptual_crop": 32},
    "identity": {"l1": 0.1, "identity": 1.0},
    "code": {"l1": 0.1, "kl": 10.0, "kl_warmup": 0.0, "latent_l2": 10.0},
}


@pytest.fixture(scope="module")
def made_up_vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16's convolutions with random numbers in them."""
    from tests.core.test_perceptual import LAYERS

    generator, weights = torch.Generator().manual_seed(0), {}
    for layer, (outputs, inputs) in LAYERS.items():
        kernel = torch.randn(outputs, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
        weights[f"features.{layer}.weight"] = kernel
        weights[f"features.{layer}.bias"] = torch.zeros(outputs)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture
def nets(made_up_vgg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> Path:
        return made_up_vgg if name == "vgg16" else find(name)

    monkeypatch.setattr("facemorph_core.weights.find", found)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("geometry", ["plain", "mean_shape"])
@pytest.mark.parametrize("kind", ["ae", "vae"])
def test_taking_one_photo_away_moves_the_sum_by_no_more_than_the_bound(kind, geometry, loss, nets):
    """With the seed and the key known, whatever photo it is and however batches are cut."""
    config = run_config(
        kind,
        loss=LOSSES[loss],
        model={"geometry": geometry, "image_size": 64 if "perceptual" in LOSSES[loss] else 32},
        training={"mirror": True, "light": 0.4},
        privacy={"max_grad_norm": 0.01, "max_physical_batch": 2},
    )
    faces = Faces.made(5, size=config.model.image_size)
    faces.pixels[1] = 255  # as unlike the others as can be
    faces.pixels[3] = 0
    rows = np.arange(5)
    try:
        whole = clipped_sum(config, faces, rows)
    except WeightsUnavailable as error:
        pytest.skip(f"needs weights: {error}")
    assert whole.norm() > 0.01
    for photo in (0, 1, 4):
        without = clipped_sum(config, faces, np.delete(rows, photo))
        assert (whole - without).norm() <= 0.01 * (1 + 1e-3)


@settings(max_examples=10)
@given(
    count=st.integers(2, 7),
    physical=st.integers(1, 8),
    bound=st.sampled_from([1e-4, 1.0, 1e4]),
    data=st.data(),
)
def test_the_bound_holds_for_any_batch_in_any_pieces(count, physical, bound, data):
    config = run_config(
        "vae",
        training={"mirror": True, "light": 1.0},
        privacy={"max_grad_norm": bound, "max_physical_batch": physical},
    )
    faces, rows = Faces.made(8), np.arange(8)[:count]
    photo = data.draw(st.integers(0, count - 1))
    away = clipped_sum(config, faces, rows) - clipped_sum(config, faces, np.delete(rows, photo))
    assert away.norm() <= bound * (1 + 1e-3)


def test_a_photo_that_breaks_the_arithmetic_counts_as_nothing():
    """A crafted model in which one photo's gradient is not finite."""
    config, faces, rows = run_config("ae"), Faces.made(4), np.arange(4)
    faces.pixels[:] = np.random.default_rng(0).integers(127, 129, faces.pixels.shape)
    faces.pixels[2] = 255
    model = awake(config)
    with torch.no_grad():
        model.encoder.stem.weight.mul_(1e20)
    trainer = private_trainer(config, model)
    trainer.per_photo_gradients(faces, rows, AT)
    finite = gradients(trainer).isfinite().all(dim=1)
    assert finite.tolist() == [True, True, False, True]
    model = trainer.wrapped.to_standard_module()
    whole = clipped_sum(config, faces, rows, copy.deepcopy(model))
    assert whole.isfinite().all()
    without = clipped_sum(config, faces, np.delete(rows, 2), copy.deepcopy(model))
    torch.testing.assert_close(whole, without)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("kind", ["ae", "vae"])
def test_per_photo_gradients_equal_a_slow_loop_in_every_layer(kind, size, order):
    config, faces = run_config(kind, model={"image_size": size}), Faces.made(3, size=size)
    trainer = private_trainer(config, awake(config).to(memory_format=order))
    trainer.per_photo_gradients(faces, np.arange(3), AT)
    together = dict(trainer.model.named_parameters())
    for photo in range(3):
        alone = private_trainer(config, awake(config))
        alone.wrapped = alone.wrapped.to_standard_module().train()
        alone.per_photo_gradients(faces, np.array([photo]), AT)
        single = {name: p.grad for name, p in alone.wrapped.named_parameters()}
        # a bias before a norm of single channels changes nothing: its gradient is rounding
        rounding = 1e-6 * max(float(expected.norm()) for expected in single.values())
        for name, expected in single.items():
            away = (together[name].grad_sample[photo] - expected).norm()
            assert away <= 2e-3 * expected.norm() + rounding, name
        assert sum(float(expected.norm()) > rounding for expected in single.values()) > 50


def test_a_small_gradient_is_not_stretched_to_the_bound():
    trainer = private_trainer(run_config(privacy={"max_grad_norm": 1e6}))
    trainer.per_photo_gradients(Faces.made(1), np.arange(1), AT)
    before = gradients(trainer)[0].clone()
    trainer.optimiser.clip_and_accumulate()
    clipped = torch.cat([p.summed_grad.flatten() for p in trainer.model.parameters()])
    torch.testing.assert_close(clipped, before)


# --- the noise -------------------------------------------------------------------------------


def of_nothing(trainer) -> torch.Tensor:
    """What a step with an empty batch releases: the noise."""
    private._no_gradients(trainer.model)
    assert trainer.optimiser.pre_step()
    released = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    trainer.optimiser.zero_grad()
    return released


@pytest.mark.parametrize(("noise", "bound"), [(1.0, 1.0), (2.0, 0.5), (0.7, 3.0)])
def test_the_noise_has_the_standard_deviation_that_is_accounted_for(noise, bound):
    """An empty batch releases nothing but noise: s C / (q n) in each weight."""
    config = run_config(privacy={"noise_multiplier": noise, "max_grad_norm": bound})
    released = of_nothing(private_trainer(config))
    assert len(released) > 200_000
    assert float(released.std()) * 4.0 == pytest.approx(noise * bound, rel=0.01)
    assert abs(float(released.mean())) < 0.01 * noise * bound


def test_every_step_and_every_weight_has_noise_of_its_own():
    trainer = private_trainer(run_config())
    steps = torch.stack([of_nothing(trainer) for _ in range(2)])
    assert abs(float(torch.corrcoef(steps)[0, 1])) < 0.01
    assert len(steps[0].unique()) > 0.99 * len(steps[0])


def test_the_physical_batch_changes_no_result():
    faces, rows = Faces.made(5), np.arange(5)
    training = {"mirror": True, "light": 0.5}
    pieces = [
        clipped_sum(run_config(training=training, privacy={"max_physical_batch": n}), faces, rows)
        for n in (2, 8)
    ]
    torch.testing.assert_close(*pieces, rtol=1e-4, atol=1e-6)


def test_an_empty_batch_is_a_step_like_any_other():
    trainer = private_trainer(run_config())
    before = [p.detach().clone() for p in trainer.model.parameters()]
    assert trainer.step(Faces.made(2), np.array([], dtype=np.int64), AT) == {}
    assert all(
        not torch.equal(p, b) for p, b in zip(trainer.model.parameters(), before, strict=True)
    )


# --- a whole round ---------------------------------------------------------------------------


def train(faces: Faces, config: RunConfig, ledger: SiteLedger, *, model=None, **options):
    model = model or build_model(config.model)
    options = {"epochs": 1, "limits": LIMITS, **options}
    return train_privately(model, faces, config, ledger=ledger, **options), model


def events(ledger: SiteLedger) -> list[object]:
    return [entry.event for entry in ledger.read().entries]


def weights(model: Autoencoder) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_round_trains_reports_only_what_is_covered_and_charges_the_ledger(ledger):
    config, faces = run_config(), Faces.made(10)
    outcome, model = train(faces, config, ledger, epochs=2)
    assert outcome.examples == 10
    event = GaussianSteps(1.0, 0.4, 6)
    assert events(ledger) == [event]
    assert outcome.metrics == {"epsilon": epsilon([event], 1e-5), "delta": 1e-5, "steps": 6.0}
    assert not torch.equal(weights(model), weights(build_model(config.model)))
    assert not model.training
    assert not any(hasattr(p, "grad_sample") for p in model.parameters())


def test_epsilon_is_composed_over_rounds(ledger):
    spent = [train(Faces.made(6), run_config(), ledger)[0].metrics["epsilon"] for _ in range(3)]
    assert spent == sorted(spent)
    assert spent[0] < spent[2]
    assert spent[2] == epsilon([GaussianSteps(1.0, 4 / 6, 2)] * 3, 1e-5)


class Unread(Faces):
    """Photos that nobody may look at."""

    def images(self, rows: np.ndarray) -> np.ndarray:
        raise AssertionError("a photo was read")


def unread(count: int) -> Faces:
    return Unread(np.zeros((count, 32, 32, 3), np.uint8), source_digests=list("abcdefgh")[:count])


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (SiteLimits(max_epsilon=0.5), BudgetExhausted),
        (SiteLimits(max_epsilon=20, max_delta=1e-300), BudgetExhausted),
        (SiteLimits(max_epsilon=100, min_noise_multiplier=1.1), LimitsExceeded),
    ],
)
def test_what_the_site_does_not_allow_is_refused_before_a_photo_is_read(ledger, limits, error):
    config = run_config(privacy={"max_epsilon": 1e300, "delta": 0.5})
    model = build_model(config.model)
    with pytest.raises(error):
        train(unread(6), config, ledger, model=model, limits=limits)
    assert not ledger.path.exists()
    assert torch.equal(weights(model), weights(build_model(config.model)))


def test_so_many_releases_a_day_and_no_more(ledger):
    limits = SiteLimits(max_epsilon=100, max_releases_a_day=2)
    for _ in range(2):
        train(Faces.made(6), run_config(), ledger, limits=limits)
    with pytest.raises(LimitsExceeded, match="max_releases_a_day"):
        train(unread(6), run_config(), ledger, limits=limits)


def test_a_round_is_charged_before_its_first_photo_is_read(ledger):
    class Watching(Faces):
        def images(self, rows: np.ndarray) -> np.ndarray:
            assert len(ledger.read().entries) == 1
            self.looked = True
            return super().images(rows)

    faces = Watching(Faces.made(6).pixels, source_digests=list("abcdef"))
    train(faces, run_config(), ledger)
    assert faces.looked


def test_no_photo_is_read_if_the_charge_cannot_be_written(ledger, monkeypatch):
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facemorph_core.privacy.site_ledger._write_behind", full_disk)
    with pytest.raises(LedgerError, match="nothing is released"):
        train(unread(4), run_config(), ledger)


def test_a_round_that_fails_stays_charged_and_leaves_the_model_alone(ledger, monkeypatch):
    monkeypatch.setattr(private, "learning_rate", lambda config, share: float("inf"))
    model = build_model(run_config().model)
    with pytest.raises(TrainingDiverged):
        train(Faces.made(4), run_config(), ledger, model=model)
    assert len(events(ledger)) == 1
    assert torch.equal(weights(model), weights(build_model(run_config().model)))


def test_photos_that_were_released_without_noise_have_no_budget_any_more(ledger):
    faces = Faces.made(6)
    ledger.note(photos_of(faces, "train"), PlainRelease("weights"))
    with pytest.raises(BudgetExhausted, match="no finite epsilon"):
        train(faces, run_config(), ledger)
    others = Faces(255 - faces.pixels)
    assert train(others, run_config(), ledger)[0].metrics["epsilon"] < 100


def test_nothing_random_can_be_repeated_without_the_key(ledger):
    def made(**options: object) -> torch.Tensor:
        return weights(train(Faces.made(6), run_config(), ledger, **options)[1])

    assert not torch.equal(made(), made())
    assert torch.equal(made(secret=Secret(KEY)), made(secret=Secret(KEY)))


@pytest.mark.parametrize(("examples", "rate", "steps"), [(4, 1.0, 3), (3, 1.0, 3), (10, 0.4, 9)])
def test_the_planned_release_follows_from_the_count_of_photos(examples, rate, steps):
    config = run_config()
    planned = planned_release(config, private_config(config), examples=examples, epochs=3)
    assert planned == GaussianSteps(1.0, rate, steps)


def test_private_training_needs_a_privacy_section(ledger):
    config = run_config().model_copy(update={"privacy": None})
    with pytest.raises(ConfigError, match="privacy"):
        train(Faces.made(2), config, ledger)


# --- scores ----------------------------------------------------------------------------------


def scoring(noise: float = 4.0, people: int = 3, **privacy: object) -> RunConfig:
    asked = {"noise_multiplier": noise, "people": people}
    return run_config("ae", privacy={"scoring": asked, **privacy})


untrained = cache(build_model)


def score(faces: Faces, config: RunConfig, ledger: SiteLedger, **options) -> dict[str, float]:
    options = {"limits": LIMITS, **options}
    return score_privately(untrained(config.model), faces, config, ledger=ledger, **options)


def test_scores_are_noised_sums_that_are_charged(ledger):
    faces, config = Faces.made(10, val=4), scoring()
    told = score(faces, config, ledger)
    assert {*told} == {"examples", *RANGES}
    assert told["examples"] == 4
    assert events(ledger) == [GaussianSteps(4.0, 1.0, 1)]
    assert told != score(faces, config, ledger)
    assert ledger.spent(photos_of(faces, "val"), 1e-5) == epsilon(
        [GaussianSteps(4.0, 1.0, 2)], 1e-5
    )
    assert ledger.spent(photos_of(faces, "train"), 1e-5) == 0


def test_one_photo_moves_the_scores_by_no_more_than_the_bound(ledger, monkeypatch):
    """Without noise and in units of the bound, for photos as unlike each other as can be."""
    monkeypatch.setattr(Secret, "normal", lambda self, shape, *_: torch.zeros(shape))
    faces = Faces.made(6, val=6)
    faces.pixels[0], faces.pixels[1] = 0, 128
    sums = []
    for rows in (range(6), range(1, 6)):
        some = Faces(faces.pixels[list(rows)], val=len(rows))
        told = score(some, scoring(), ledger)
        sums.append(
            [(told[n] - low * len(rows)) / (high - low) for n, (low, high) in RANGES.items()]
        )
    assert np.linalg.norm(np.subtract(*sums)) <= len(RANGES) ** 0.5


def test_the_noise_of_scores_is_that_which_is_charged(ledger, monkeypatch):
    monkeypatch.setattr(SiteLedger, "charge", lambda *_, **__: None)
    faces, config = Faces.made(3, val=3), scoring(noise=5.0, max_epsilon=1e6)
    told = np.array([[score(faces, config, ledger)[n] for n in RANGES] for _ in range(150)])
    spans = np.array([high - low for low, high in RANGES.values()])
    expected = 5.0 * len(RANGES) ** 0.5 * spans
    assert told.std(axis=0) == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, "scoring: never"),
        ({"scoring": "noised", "min_scoring_noise": 5.0}, "min_scoring_noise: 5"),
        ({"scoring": "noised", "min_scored_people": 4}, "3 people are kept aside"),
    ],
)
def test_a_site_scores_only_what_it_allows(ledger, limits, words):
    faces = Unread(np.zeros((5, 32, 32, 3), np.uint8), val=3, source_digests=list("abcde"))
    with pytest.raises(LimitsExceeded, match=words):
        score(faces, scoring(), ledger, limits=SiteLimits(max_epsilon=100, **limits))
    assert not ledger.path.exists()


def test_scores_end_with_the_budget(ledger):
    faces, config = Faces.made(5, val=5), scoring(max_epsilon=3.0)
    one = GaussianSteps(4.0, 1.0, 1)
    answers = 0
    while epsilon([one] * (answers + 1), 1e-5) <= 3.0:
        score(faces, config, ledger)
        answers += 1
    assert answers > 0
    with pytest.raises(BudgetExhausted):
        score(faces, config, ledger)
    assert len(events(ledger)) == answers
