"""A round under DP-SGD: what one photo can do, and that it is charged before it is computed."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.schema import EvaluationConfig, RunConfig
from facemorph_core.errors import (
    BudgetExhausted,
    ConfigError,
    DeltaTooLarge,
    LedgerError,
    LimitsExceeded,
    ModelError,
    TrainingDiverged,
    WeightsUnavailable,
)
from facemorph_core.learning.models import Autoencoder, build_model
from facemorph_core.learning.privacy import (
    GaussianSteps,
    Heads,
    PlainRelease,
    SiteLedger,
    SiteLimits,
    Spent,
    epsilon,
    photos_of,
)
from facemorph_core.learning.privacy.mechanism import ClippedSum, length_of
from facemorph_core.learning.privacy.secret import Secret
from facemorph_core.learning.training import trainer
from facemorph_core.learning.training.batches import Batch, to_images
from facemorph_core.learning.training.gradients import BatchGradients
from facemorph_core.learning.training.local import LocalRound
from facemorph_core.learning.training.objective import (
    FeatureNets,
    reconstruction_terms,
    total,
    weights_at,
)
from facemorph_core.learning.training.private import (
    PhotoGradients,
    planned_release,
    repeatable_compute,
    train_privately,
)
from facemorph_core.learning.training.private_scores import RANGES, score_privately
from facemorph_core.learning.training.trainer import Gradients, Moment, Trainer
from facemorph_core.learning.weights import find
from tests.ledgers import spent_of

AT = Moment(1.0, 0, 0)
KEY = bytes(32)
LIMITS = SiteLimits.of_a_simulation()
FEW = {"min_trained_photos": 1, "min_trained_people": 1}


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


def photo_gradients(config: RunConfig, model: Autoencoder | None = None) -> PhotoGradients:
    return PhotoGradients(model or awake(config), config, secret=Secret(KEY), expected=4.0)


def flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def clipped_sum(config: RunConfig, faces: Faces, rows: np.ndarray, model=None) -> torch.Tensor:
    """What a step of real training would release of these rows, without the noise, float64."""
    summed, _ = photo_gradients(config, copy.deepcopy(model)).clipped_sum(faces, rows, AT)
    return flat(summed.total)


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
    from tests.core.learning.losses.test_perceptual import LAYERS

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

    monkeypatch.setattr("facemorph_core.learning.weights.find", found)


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
        privacy={"max_grad_norm": 0.01},
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
        assert (whole - without).norm() <= 0.01 * (1 + 1e-9)


@settings(max_examples=10)
@given(count=st.integers(2, 7), bound=st.sampled_from([1e-6, 1.0, 1e6]), data=st.data())
def test_the_bound_holds_for_any_batch(count, bound, data):
    config = run_config(
        "vae", training={"mirror": True, "light": 1.0}, privacy={"max_grad_norm": bound}
    )
    faces, rows = Faces.made(8), np.arange(8)[:count]
    photo = data.draw(st.integers(0, count - 1))
    away = clipped_sum(config, faces, rows) - clipped_sum(config, faces, np.delete(rows, photo))
    assert away.norm() <= bound * (1 + 1e-9)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [2, 9, 17, 33])
def test_weights_that_make_rounding_large_do_not_lead_from_photo_to_photo(count, threads):
    """Two features cancel but for their rounding, and that is all that the decoder sees: what
    depended on the size of a batch moved the sum by up to 1.9 times the bound."""
    config = run_config("ae", model={"image_size": 64}, privacy={"max_grad_norm": 0.01})
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"threads": threads})}
    )
    model, faces, rows = awake(config), Faces.made(count, size=64), np.arange(count)
    with torch.no_grad():
        head = model.encoder.head
        order = torch.randperm(head.weight.shape[1], generator=torch.Generator().manual_seed(0))
        head.weight[1::2] = head.weight[::2]
        head.weight[1::2, order[: len(order) // 2]] *= 1 + 1e-7
        pairs = model.decoder.head.weight
        pairs[:, 1::2] = -pairs[:, ::2]
        pairs *= 1e10
    torch.set_num_threads(threads)
    try:
        whole = clipped_sum(config, faces, rows, model)
        without = clipped_sum(config, faces, rows[1:], model)
    finally:
        torch.set_num_threads(1)
    assert (whole - without).norm() <= 0.01 * (1 + 1e-9)


def test_the_same_photo_twice_is_one_photo(ledger):
    faces, seen = Faces(Faces.made(3).pixels[[0, 1, 0, 2, 1]]), []
    faces.images = lambda rows: seen.extend(rows.tolist()) or faces.pixels[rows]
    faces.source_digests[:] = list("abacb")
    outcome, _ = train(faces, run_config(), ledger, epochs=3)
    assert outcome.examples == 3
    assert set(seen) == {0, 1, 3}
    assert photos_of(faces, "train") == frozenset("abc")


def test_a_photo_that_breaks_the_arithmetic_counts_as_nothing():
    """A crafted model in which one photo's gradient is not finite."""
    config, faces, rows = run_config("ae"), Faces.made(4), np.arange(4)
    faces.pixels[:] = np.random.default_rng(0).integers(127, 129, faces.pixels.shape)
    faces.pixels[2] = 255

    def crafted(power: int) -> Autoencoder:
        model = awake(config)
        with torch.no_grad():
            model.encoder.stem.weight.mul_(10.0**power)
        return model

    def finite(model: Autoencoder) -> list[bool]:
        found = photo_gradients(config, copy.deepcopy(model))
        return [bool(flat(found.of_photo(faces, i, AT)[0]).isfinite().all()) for i in range(4)]

    # a CPU's norms overflow from 1e19 on, an H200's from 1e34
    model = next(m for m in map(crafted, range(19, 39)) if finite(m) == [True, True, False, True])
    whole = clipped_sum(config, faces, rows, model)
    assert whole.isfinite().all()
    torch.testing.assert_close(whole, clipped_sum(config, faces, np.delete(rows, 2), model))


def test_where_a_gpu_cannot_repeat_a_gradient_a_round_is_computed_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    for loss, device in (({"l1": 1.0}, "cuda"), ({"identity": 1.0}, "cpu")):
        chosen = repeatable_compute(run_config(loss=loss))
        assert (chosen.device.type, chosen.bfloat16) == (device, False)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("kind", ["ae", "vae"])
def test_the_photos_gradients_add_up_to_that_of_their_batch_in_every_layer(
    kind, size, order, monkeypatch
):
    """Ordinary training of the whole batch at once knows nothing of single photos."""
    noise = torch.randn(3, 28, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        "facemorph_core.learning.models.base.Posterior.sample",
        lambda it, _: it.mean + (0.5 * it.log_var).exp() * noise[drawn.rows].to(it.mean),
    )
    config, faces = run_config(kind, model={"image_size": size}), Faces.made(3, size=size)
    drawn = SimpleNamespace(rows=slice(None))
    model = awake(config)
    images = to_images(faces.pixels, torch.device("cpu"))
    made = model.train()(images, torch.Generator())
    seen = Batch(images, 1.0)
    terms = reconstruction_terms(made, seen, config, nets=FeatureNets(), crops=torch.Generator())
    weights = weights_at(config.loss, AT.share, latent_dim=28)
    expected = torch.autograd.grad(total(terms, weights).sum(), list(model.parameters()))
    gradients, parts = photo_gradients(config, awake(config).to(memory_format=order)), []
    for row in range(3):
        drawn.rows = slice(row, row + 1)
        parts.append([each.cpu() for each in gradients.of_photo(faces, row, AT)[0]])
    # a bias before a norm of single channels changes nothing: its gradient is rounding
    rounding = 1e-6 * max(float(gradient.norm()) for gradient in expected)
    for name, whole, *each in zip(dict(model.named_parameters()), expected, *parts, strict=True):
        assert (sum(each) - whole).norm() <= 2e-3 * whole.norm() + rounding, name
    assert sum(float(gradient.norm()) > rounding for gradient in expected) > 50


def test_without_noise_and_bound_the_gradient_is_that_of_ordinary_training(monkeypatch):
    monkeypatch.setattr(Secret, "normal", lambda self, shape, *_: torch.zeros(shape))
    config = run_config(
        "ae", training={"precision": "float32"}, privacy={"max_grad_norm": 1e6, "max_epsilon": 1.0}
    )
    found = [photo_gradients(config), BatchGradients(awake(config), config, seed=0)]
    for gradients in found:
        assert isinstance(gradients, Gradients)
        terms = gradients.fill(Faces.made(4), np.arange(4), AT)
    photos, batch = (flat(p.grad for p in each.model.parameters()) for each in found)
    assert (photos - batch).norm() < 1e-4 * batch.norm()
    assert terms["loss"] > 0


@given(
    lengths=st.lists(st.floats(1e-20, 1e35), min_size=1, max_size=4),
    bound=st.floats(1e-6, 1e6),
)
def test_each_gradient_comes_out_at_most_as_long_as_the_bound(lengths, bound):
    generator = torch.Generator().manual_seed(0)
    likes = [torch.zeros(3, 4), torch.zeros(50)]
    for length in lengths:
        summed = ClippedSum(likes, bound)
        drawn = [torch.randn(like.shape, generator=generator) for like in likes]
        summed.add([each * (length / length_of(drawn)) for each in drawn])
        got, wanted = length_of(summed.total), min(length, bound)
        assert got == pytest.approx(wanted, rel=1e-5)
        assert got <= bound * (1 + 1e-9)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_no_number_adds_nothing(broken):
    summed = ClippedSum([torch.zeros(3), torch.zeros(2)], 1.0)
    summed.add([torch.tensor([1.0, broken, 0.0]), torch.ones(2)])
    assert length_of(summed.total) == 0
    summed.add([torch.zeros(3), torch.zeros(2)])
    assert length_of(summed.total) == 0


# --- the noise -------------------------------------------------------------------------------


def of_nothing(gradients: PhotoGradients, step: int = 0) -> torch.Tensor:
    """What a step with an empty batch releases: the noise."""
    no_rows = np.array([], dtype=np.int64)
    assert gradients.fill(Faces.made(2), no_rows, Moment(1.0, 0, step)) == {}
    return flat(p.grad for p in gradients.parameters)


@pytest.mark.parametrize(("noise", "bound"), [(1.0, 1.0), (2.0, 0.5), (0.7, 3.0)])
def test_the_noise_has_the_standard_deviation_that_is_accounted_for(noise, bound):
    """An empty batch releases nothing but noise: s C / (q n) in each weight."""
    config = run_config(privacy={"noise_multiplier": noise, "max_grad_norm": bound})
    released = of_nothing(photo_gradients(config))
    assert len(released) > 200_000
    assert float(released.std()) * 4.0 == pytest.approx(noise * bound, rel=0.01)
    assert abs(float(released.mean())) < 0.01 * noise * bound


def test_every_step_and_every_weight_has_noise_of_its_own():
    gradients = photo_gradients(run_config())
    steps = torch.stack([of_nothing(gradients, step) for step in range(2)])
    assert abs(float(torch.corrcoef(steps)[0, 1])) < 0.01
    assert len(steps[0].unique()) > 0.99 * len(steps[0])


def test_an_empty_batch_is_a_step_like_any_other():
    gradients = photo_gradients(run_config())
    before = flat(gradients.parameters)
    Trainer(gradients).step(Faces.made(2), np.array([], dtype=np.int64), AT)
    assert not torch.equal(flat(gradients.parameters), before)


# --- a whole round ---------------------------------------------------------------------------


def train(faces: Faces, config: RunConfig, ledger: SiteLedger, *, model=None, epochs=1, **options):
    model = model or build_model(config.model)
    work, options = LocalRound(config, epochs=epochs), {"limits": LIMITS, **options}
    return train_privately(model, faces, work, ledger=ledger, **options), model


def events(ledger: SiteLedger) -> list[object]:
    return [entry.event for entry in ledger.read().entries]


def weights(model: Autoencoder) -> torch.Tensor:
    return flat(model.parameters())


def test_a_round_trains_reports_only_what_is_covered_and_charges_the_ledger(ledger):
    config, faces = run_config(), Faces.made(10)
    outcome, model = train(faces, config, ledger, epochs=2)
    assert outcome.examples == 10
    event = GaussianSteps(1.0, 0.4, 6)
    assert events(ledger) == [event]
    assert outcome.metrics == {"epsilon": epsilon([event], 1e-5), "delta": 1e-5, "steps": 6.0}
    assert not torch.equal(weights(model), weights(build_model(config.model)))
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


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
        (SiteLimits(**FEW, max_epsilon=0.5), BudgetExhausted),
        (SiteLimits(**FEW, max_epsilon=20, max_delta=1e-300), BudgetExhausted),
        (SiteLimits(**FEW, max_epsilon=100, min_noise_multiplier=1.1), LimitsExceeded),
    ],
)
def test_what_the_site_does_not_allow_is_refused_before_a_photo_is_read(ledger, limits, error):
    config = run_config(privacy={"max_epsilon": 1e300, "delta": 0.4})
    model = build_model(config.model)
    with pytest.raises(error):
        train(unread(6), config, ledger, model=model, limits=limits)
    assert not ledger.path.exists()
    assert torch.equal(weights(model), weights(build_model(config.model)))


@pytest.mark.parametrize(("delta", "allowed"), [(0.4, False), (1 / 8, False), (0.12, True)])
def test_delta_is_below_one_over_the_photos(ledger, delta, allowed):
    """Else whoever gave one photo away, drawn by lot, would keep the promise."""
    config = run_config(privacy={"delta": delta})
    if allowed:
        assert train(Faces.made(8), config, ledger)[0].metrics["delta"] == delta
        return
    with pytest.raises(DeltaTooLarge, match=r"for 8 photos is no promise"):
        train(unread(8), config, ledger)
    aside = Unread(unread(8).pixels, val=8, source_digests=list("abcdefgh"))
    with pytest.raises(DeltaTooLarge):
        score(aside, scoring(delta=delta), ledger)
    assert not ledger.path.exists()


def test_copies_of_a_photo_do_not_make_it_many(ledger):
    faces = Unread(np.zeros((8, 32, 32, 3), np.uint8), source_digests=list("aaaabbbb"))
    with pytest.raises(LimitsExceeded, match="min_trained_photos: 3"):
        train(faces, run_config(), ledger, limits=SiteLimits(**{**FEW, "min_trained_photos": 3}))


@pytest.mark.parametrize(
    ("photos", "people", "words"),
    [(19, 19, "min_trained_photos: 20"), (20, 4, "min_trained_people: 5"), (1, 1, "min_trained")],
)
def test_a_site_does_not_train_on_a_few_photos_or_people(ledger, photos, people, words):
    faces = Unread(
        np.zeros((photos, 32, 32, 3), np.uint8),
        people=[f"person {i % people}" for i in range(photos)],
        source_digests=[f"digest {i}" for i in range(photos)],
    )
    with pytest.raises(LimitsExceeded, match=words):
        train(faces, run_config(), ledger, limits=SiteLimits(max_epsilon=100))
    assert not ledger.path.exists()


def test_so_many_releases_a_day_and_no_more(ledger):
    limits = SiteLimits(**FEW, max_epsilon=100, max_releases_a_day=2)
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

    monkeypatch.setattr("facemorph_core.learning.privacy.site_ledger._write_behind", full_disk)
    with pytest.raises(LedgerError, match="nothing is released"):
        train(unread(4), run_config(), ledger)


def test_a_round_that_fails_stays_charged_and_leaves_the_model_alone(ledger, monkeypatch):
    monkeypatch.setattr(trainer, "learning_rate", lambda config, share: float("inf"))
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
    planned = planned_release(LocalRound(run_config(), epochs=3), examples=examples)
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
    return score_privately(untrained(config.model), faces, config, ledger=ledger, **options)[0]


def test_scores_are_noised_sums_that_are_charged(ledger):
    faces, config = Faces.made(10, val=4), scoring()
    told = score(faces, config, ledger)
    assert {*told} == {"examples", *RANGES}
    assert told["examples"] == 4
    assert events(ledger) == [GaussianSteps(4.0, 1.0, 1)]
    assert told != score(faces, config, ledger)
    assert spent_of(ledger, photos_of(faces, "val"), 1e-5) == epsilon(
        [GaussianSteps(4.0, 1.0, 2)], 1e-5
    )
    assert spent_of(ledger, photos_of(faces, "train"), 1e-5) == 0


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
    monkeypatch.setattr(SiteLedger, "charge", lambda *_, **__: Spent(1.0, 1e-5))
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
        ({"scoring": "noised", "min_scored_people": 4}, "sums over 4 people, and these are 3"),
    ],
)
def test_a_site_scores_only_what_it_allows(ledger, limits, words):
    faces = Unread(np.zeros((5, 32, 32, 3), np.uint8), val=3, source_digests=list("abcde"))
    with pytest.raises(LimitsExceeded, match=words):
        score(faces, scoring(), ledger, limits=SiteLimits(**FEW, max_epsilon=100, **limits))
    assert not ledger.path.exists()


def test_a_coordinator_cannot_choose_fewer_people_than_the_site_allows(ledger):
    config = scoring().model_copy(update={"evaluation": EvaluationConfig(max_faces=2)})
    with pytest.raises(LimitsExceeded, match="sums over 3 people, and these are 2"):
        score(Faces.made(9, val=9), config, ledger)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_costs_nothing(ledger):
    config = scoring()
    absent = config.training.model_copy(update={"device": "cuda"})
    with pytest.raises(ConfigError, match="no GPU"):
        score(Faces.made(4, val=4), config.model_copy(update={"training": absent}), ledger)
    assert not ledger.path.exists()


def test_a_shard_of_another_size_costs_nothing(ledger):
    with pytest.raises(ModelError, match="64 px"):
        score(Faces.made(4, val=4, size=64), scoring(), ledger)
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
