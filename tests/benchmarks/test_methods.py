"""The benchmark's ways to keep a face in some numbers, and learning by the clock."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file

from benchmarks import clock
from benchmarks.components import fit_components
from benchmarks.floors import DCT, PCA, fit_dct, fit_pca, fit_shape_texture, truncated
from benchmarks.ladder import released
from benchmarks.method import Facts, Method
from benchmarks.released import Released, facts_of
from benchmarks.textbook import (
    Textbook,
    TextbookTrainer,
    TextbookVAE,
    textbook_config,
    textbook_course,
)
from benchmarks.tight import TightFaces, tightened, tightened_landmarks
from benchmarks.trained import Ours, course, fitted_gaussian
from facemorph_core.alignment.frame import eye_centres, mean_shape, shape_basis
from facemorph_core.bundle import open_bundle
from facemorph_core.bundle.find import find_model
from facemorph_core.config.schema import LossConfig, RunConfig
from facemorph_core.errors import ConfigError, OutputError, TrainingDiverged
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.learning.models import build_model, count_parameters
from facemorph_core.learning.training.trainer import Moment
from facemorph_core.metrics.psnr import psnr
from facemorph_core.shards.shard import IndexRow, Shard, write_shard

SIZE = 128
TRAIN, VAL = 12, 4


def smooth_faces(count: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Soft blots of colour, each picture another."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def shapes(count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Landmarks that the shape basis can say exactly."""
    basis, numbers = shape_basis(), np.random.default_rng(seed).standard_normal((count, 24))
    return np.stack([basis.decode_shape(row) for row in numbers]).astype(np.float32)


def shard_of(out: Path, faces: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Shard:
    """The last VAL faces are of people who are not trained on."""
    split = len(faces) - VAL
    index = [
        IndexRow(f"p{i}", "train" if i < split else "val", f"{i:064x}", {})
        for i in range(len(faces))
    ]
    return write_shard(out, faces, landmarks, index)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    out = tmp_path_factory.mktemp("faces") / "shard"
    return shard_of(out, smooth_faces(TRAIN + VAL), shapes(TRAIN + VAL))


def through(method: Method, shard: Shard, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    return method.decode(method.encode(shard.images(rows), shard.landmarks(rows)))


def error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean square, grey levels."""
    return float(((a.astype(np.float64) - b) ** 2).mean())


# --- floors ----------------------------------------------------------------------------------


def exact_components(
    faces: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    flat = faces.reshape(len(faces), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    _, singular, axes = np.linalg.svd(flat - mean, full_matrices=False)
    return mean, singular / np.sqrt(len(faces)), axes


def test_components_are_those_of_a_singular_value_decomposition(shard):
    rows = shard.rows("train")
    found = fit_pca(shard, rows, TRAIN - 1).components
    mean, scales, axes = exact_components(shard.images(rows))
    np.testing.assert_allclose(found.mean.reshape(-1), mean, atol=1e-4)
    np.testing.assert_allclose(found.scales, scales[: TRAIN - 1], rtol=1e-4)
    cosines = np.abs((found.axes * axes[: TRAIN - 1]).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


@pytest.fixture(scope="module")
def exact(shard: Shard) -> tuple[PCA, NDArray[np.float64], NDArray[np.float64]]:
    """A PCA of all components, with the mean and axes of the slow way."""
    rows = shard.rows("train")
    mean, _, axes = exact_components(shard.images(rows))
    return fit_pca(shard, rows, TRAIN - 1), mean, axes


@given(numbers=st.integers(1, TRAIN - 1))
@settings(max_examples=10)
def test_truncated_it_is_the_projection_on_the_widest_components(shard, exact, numbers):
    val, (pca, mean, axes) = shard.rows("val"), exact
    flat = shard.images(val).reshape(VAL, -1) - mean
    wanted = mean + flat @ axes[:numbers].T @ axes[:numbers]
    shorter = truncated(pca, numbers)
    made = through(shorter, shard, val).reshape(VAL, -1)
    assert np.abs(made - wanted.clip(0, 255)).max() < 0.51
    assert (shorter.name, shorter.facts.numbers) == (f"PCA-{numbers}", numbers)


def test_more_components_than_faces_give_the_faces_back(shard):
    rows = shard.rows("train")
    pca = fit_pca(shard, rows, 20)
    assert np.abs(through(pca, shard, rows).astype(int) - shard.images(rows)).max() <= 1
    codes = pca.encode(shard.images(rows), shard.landmarks(rows))
    np.testing.assert_allclose(codes[:, TRAIN - 1 :], 0)
    np.testing.assert_allclose(codes[:, : TRAIN - 1].var(axis=0), 1, rtol=1e-3)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-3)


def test_blocks_do_not_change_the_components(shard):
    faces = shard.images(shard.rows("train"))
    whole = fit_components(lambda: iter([faces]), 5)
    parts = fit_components(lambda: iter([faces[:7], faces[7:]]), 5)
    np.testing.assert_allclose(parts.scales, whole.scales, rtol=1e-4)
    np.testing.assert_allclose(parts.axes, whole.axes, atol=1e-4)


def test_the_passes_are_counted_and_told(shard):
    told: list[tuple[int, int]] = []
    rows = shard.rows("train")
    pca = fit_pca(shard, rows, 3, on_pass=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, told[0][1] + 1))
    assert pca.facts.images_seen == told[0][1] * TRAIN
    assert pca.facts.parameters == (3 + 1) * SIZE * SIZE * 3 + 3


def test_asking_for_more_than_there_is_is_refused(shard):
    pca = fit_pca(shard, shard.rows("train"), 3)
    with pytest.raises(ValueError, match="4 of 3 components"):
        truncated(pca, 4)
    with pytest.raises(ValueError, match="no picture"):
        fit_pca(shard, shard.rows("test"), 3)
    with pytest.raises(ValueError, match="24 numbers leave none"):
        fit_shape_texture(shard, shard.rows("train"), 24)


def test_dct_beats_the_mean_face_alone(shard):
    rows, val = shard.rows("train"), shard.rows("val")
    dct = fit_dct(shard, rows)
    mean_alone = dct.decode(np.zeros((VAL, 128), np.float32))
    faces = shard.images(val)
    assert error(through(dct, shard, val), faces) < 0.5 * error(mean_alone, faces)


def test_the_dct_of_the_mean_face_is_zero(tmp_path):
    """Faces in pairs around one: their mean is it, exactly."""
    middle = smooth_faces(1)[0] // 2 + 64
    away = smooth_faces(6, seed=1) // 4
    faces = np.concatenate([middle + away, middle - away, np.repeat(middle[None], VAL, 0)])
    shard = shard_of(tmp_path / "shard", faces, shapes(len(faces)))
    dct = fit_dct(shard, shard.rows("train"))
    val = shard.rows("val")
    np.testing.assert_allclose(dct.encode(shard.images(val), shard.landmarks(val)), 0, atol=1e-3)
    assert np.array_equal(through(dct, shard, val), shard.images(val))


@given(numbers=st.integers(50, 400))
@settings(max_examples=15)
def test_dct_numbers_survive_a_round_trip(numbers):
    facts = Facts(numbers, 0, 0, 0.0)
    dct = DCT(np.full((SIZE, SIZE, 3), 128, np.float32), facts)
    codes = np.random.default_rng(numbers).normal(0, 1500 / numbers**0.5, (2, numbers))
    back = dct.encode(dct.decode(codes), np.zeros((2, 68, 2)))
    np.testing.assert_allclose(back, codes, atol=3)  # faces are rounded to grey levels
    assert dct.sample(3, seed=0) is None


def test_an_eighth_of_the_dct_numbers_goes_to_each_chroma():
    grey = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 1), dtype=np.uint8)
    dct = DCT(np.zeros((SIZE, SIZE, 3), np.float32), Facts(128, 0, 0, 0.0))
    codes = dct.encode(np.repeat(grey, 3, axis=3), np.zeros((1, 68, 2)))
    assert np.abs(codes[0, :96]).min() > 0.1
    np.testing.assert_allclose(codes[0, 96:], 0, atol=0.05)


def test_the_first_dct_number_is_the_brightness_of_the_whole():
    dct = DCT(np.zeros((SIZE, SIZE, 3), np.float32), Facts(128, 0, 0, 0.0))
    grey = np.full((1, SIZE, SIZE, 3), 50, np.uint8)
    codes = dct.encode(grey, np.zeros((1, 68, 2)))
    assert codes[0, 0] == pytest.approx(50 * SIZE, rel=1e-5)
    np.testing.assert_allclose(codes[0, 1:], 0, atol=0.05)


MARKED = (0, 16, 30, 36, 45, 48, 54)
"""Landmarks that lie well inside the frame and far from each other."""


def marked(landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Dark pictures with a soft spot at some landmarks."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    spots = [
        sum(np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2) / 8) for p in points[list(MARKED)])
        for points in landmarks
    ]
    return np.repeat(np.rint(20 + 200 * np.stack(spots))[..., None], 3, 3).astype(np.uint8)


def spot_near(picture: NDArray[np.uint8], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of brightness within 6 pixels of ``point``."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    near = (x - point[0]) ** 2 + (y - point[1]) ** 2 <= 36
    weights = np.where(near, picture[..., 0].astype(np.float64) - 20, 0).clip(min=0)
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


@pytest.fixture(scope="module")
def marked_model(tmp_path_factory: pytest.TempPathFactory):
    """Faces that are spots at the mean shape: their texture is nothing but these."""
    landmarks = np.repeat(mean_shape()[None], TRAIN + VAL, axis=0).astype(np.float32)
    shard = shard_of(tmp_path_factory.mktemp("marked") / "shard", marked(landmarks), landmarks)
    return fit_shape_texture(shard, shard.rows("train"), 26)


@given(seed=st.integers(0, 2**16))
@settings(max_examples=15)
def test_landmarks_are_drawn_where_the_numbers_of_the_shape_say(marked_model, seed):
    numbers = np.random.default_rng(seed).uniform(-1.2, 1.2, 24)
    code = np.concatenate([numbers, np.zeros(2)])[None].astype(np.float32)
    picture = marked_model.decode(code)[0]
    wanted = shape_basis().decode_shape(numbers)
    for number in MARKED:
        missed = np.linalg.norm(spot_near(picture, wanted[number]) - wanted[number])
        moved = np.linalg.norm(wanted[number] - mean_shape()[number])
        assert missed < min(3.0, 1.0 + 0.5 * moved)  # the spline is smooth: it passes near


def test_shape_and_texture_numbers_are_those_of_the_geometry(shard):
    rows, val = shard.rows("train"), shard.rows("val")
    model = fit_shape_texture(shard, rows, 30)
    pixels, landmarks = shard.images(val), shard.landmarks(val)
    codes = model.encode(pixels, landmarks)
    seen = geometry_of("mean_shape", SIZE).see(pixels, landmarks)
    assert codes.shape == (VAL, 30)
    np.testing.assert_array_equal(codes[:, :24], seen.shape)
    again = fit_shape_texture(shard, rows, 30)
    np.testing.assert_array_equal(again.encode(pixels, landmarks), codes)
    assert error(through(model, shard, val), pixels) < error(
        np.repeat(fit_dct(shard, rows).mean[None], VAL, 0).astype(np.uint8), pixels
    )


def test_samples_follow_the_seed_and_the_prior(shard):
    rows = shard.rows("train")
    for model in (fit_pca(shard, rows, 8), fit_shape_texture(shard, rows, 30)):
        drawn = model.sample(2000, seed=3)
        np.testing.assert_array_equal(drawn, model.sample(2000, seed=3))
        assert not np.array_equal(drawn, model.sample(2000, seed=4))
        assert drawn.shape == (2000, model.facts.numbers)
        assert np.abs(drawn.mean(axis=0)).max() < 0.12
        assert np.abs(drawn.std(axis=0) - 1).max() < 0.1
        assert model.decode(drawn[:2]).shape == (2, SIZE, SIZE, 3)


# --- tight framing ---------------------------------------------------------------------------


def test_tight_framing_puts_the_eyes_fifty_pixels_apart_and_keeps_brows_and_chin():
    points = tightened_landmarks(mean_shape()[None])[0].astype(np.float64)
    left, right = eye_centres(points)
    assert right[0] - left[0] == pytest.approx(50, abs=1e-3)
    assert (left + right)[0] / 2 == pytest.approx(63.5, abs=1e-3)
    assert points[:, 1].min() > 0
    assert points[8, 1] < SIZE - 0.5


def test_tight_pixels_move_with_their_landmarks(shard):
    landmarks = shapes(3, seed=5)
    pictures, points = tightened(marked(landmarks)), tightened_landmarks(landmarks)
    for picture, shape in zip(pictures, points.astype(np.float64), strict=True):
        for number in (30, 36, 45):
            assert np.linalg.norm(spot_near(picture, shape[number]) - shape[number]) < 0.2


def test_a_shard_in_tight_framing_reads_as_any_other(shard):
    tight, rows = TightFaces(shard), shard.rows("val")
    np.testing.assert_array_equal(tight.images(rows), tightened(shard.images(rows)))
    pca = fit_pca(tight, tight.rows("train"), TRAIN)
    made = pca.decode(pca.encode(tight.images(rows), tight.landmarks(rows)))
    assert made.shape == (VAL, SIZE, SIZE, 3)
    assert (tight.size, tight.people) == (shard.size, shard.people)


# --- learning by the clock -------------------------------------------------------------------


class Stopped(BaseException):
    """What a kill looks like from inside: nothing may catch it."""


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a second after the last: each step takes one second."""
    ticks = itertools.count()
    monkeypatch.setattr(clock, "now", lambda: float(next(ticks)))


def small_config(kind: str = "vae", **training: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "small",
            "seed": 4,
            "model": {"kind": kind, "width": 8, "latent_dim": 28, "geometry": "mean_shape"},
            "loss": {"squared": 1.0},
            "training": {
                "batch_size": 5,
                "precision": "float32",
                "ema_decay": 0.9,
                "threads": 1,
                "schedule": "cosine",
                **training,
            },
        }
    )


def textbook_small(loss: LossConfig | None = None) -> clock.Course[TextbookTrainer, Textbook]:
    loss = loss or LossConfig(squared=1.0)
    return textbook_course(textbook_config(loss, image_size=SIZE, latent_dim=8))


COURSES = {
    "vae": course(small_config("vae")),
    "ae": course(small_config("ae")),
    "textbook": textbook_small(),
}


def train_small(shard: Shard, kind: str = "vae", **options: object) -> Ours:
    return course(small_config(kind)).complete(shard, **options)


def stopping_at(seconds: float) -> clock.OnClock:
    def on_step(elapsed: float, budget: float, terms: object) -> None:
        if elapsed >= seconds:
            raise Stopped

    return on_step


@pytest.mark.slow
@pytest.mark.parametrize("kind", COURSES)
def test_stopped_it_goes_on_as_if_it_never_was(shard, tmp_path, ticking, kind):
    """Weights, optimiser, running mean, place in the epoch, schedule and clock all go on."""
    train = COURSES[kind].complete
    whole = train(shard, budget=5.0, out=tmp_path / "whole", checkpoint_seconds=0.0)
    for seconds in (2.0, 4.0):
        with pytest.raises(Stopped):
            train(
                shard,
                budget=5.0,
                out=tmp_path / "parts",
                checkpoint_seconds=0.0,
                on_step=stopping_at(seconds),
            )
        state = json.loads((tmp_path / "parts" / "state.json").read_text())
        assert (state["elapsed"], state["is_done"]) == (seconds, False)
    parts = train(shard, budget=5.0, out=tmp_path / "parts", checkpoint_seconds=0.0)
    assert parts.facts == whole.facts
    assert parts.facts.seconds == 5.0
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(bool(value.isfinite().all()) for value in a.values())
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", ["vae", "textbook"])
def test_in_turns_it_learns_the_same(shard, tmp_path, ticking, kind):
    learner = COURSES[kind]
    whole = learner.complete(shard, budget=5.0, out=tmp_path / "whole")
    for until, shown in ((2.0, 2.0), (1.0, 2.0), (4.0, 4.0), (5.0, 5.0), (5.0, 5.0)):
        run = clock.ClockRun.opened(tmp_path / "parts", learner.config, budget=5.0)
        learner.go_on(shard, run, until)
        state = json.loads((tmp_path / "parts" / "state.json").read_text())
        assert (state["elapsed"], state["is_done"]) == (shown, shown == 5.0)
    assert learner.complete(shard, budget=5.0, out=tmp_path / "parts").facts == whole.facts
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_was_not_saved_is_done_again_and_its_clock_is_not_lost(shard, tmp_path, ticking):
    options = {"budget": 4.0, "out": tmp_path / "run", "checkpoint_seconds": 1e9}
    with pytest.raises(Stopped):
        train_small(shard, **options, on_step=stopping_at(3.0))
    assert not (tmp_path / "run" / "state.json").exists()
    ours = train_small(shard, **options)
    assert (ours.facts.seconds, ours.facts.images_seen) == (4.0, 12 + 5)


def test_fitted_codes_are_of_the_same_model_and_draw_better(shard, tmp_path, ticking):
    alone = train_small(shard, budget=3.0, out=tmp_path / "run")
    fitted = replace(alone, fit=1)
    rows = shard.rows("val")
    faces, landmarks = shard.images(rows), shard.landmarks(rows)
    before, after = (
        psnr(faces, ours.decode(ours.encode(faces, landmarks))).mean() for ours in (alone, fitted)
    )
    assert after > before


def test_a_finished_run_is_loaded_and_holds_the_model_alone(shard, tmp_path, ticking):
    out = tmp_path / "run"
    first = train_small(shard, budget=2.0, out=out)
    again = train_small(shard, budget=2.0, out=out, on_step=stopping_at(0.0))
    rows = shard.rows("val")
    assert again.facts == first.facts
    np.testing.assert_array_equal(through(again, shard, rows), through(first, shard, rows))
    names = {file.name for file in out.iterdir()}
    assert names == {"config.yaml", "state.json", "model.safetensors"}


def test_a_folder_of_another_run_is_refused(shard, tmp_path, ticking):
    train_small(shard, budget=1.0, out=tmp_path / "run")
    with pytest.raises(OutputError, match="another config or budget"):
        train_small(shard, budget=2.0, out=tmp_path / "run")
    with pytest.raises(OutputError, match="another config or budget"):
        train_small(shard, "ae", budget=1.0, out=tmp_path / "run")
    (tmp_path / "run" / "state.json").write_text('{"round": 3}')
    with pytest.raises(OutputError, match="something else"):
        train_small(shard, budget=1.0, out=tmp_path / "run")


def test_privacy_is_refused():
    private = small_config().model_dump() | {"privacy": {"noise_multiplier": 1.0}}
    with pytest.raises(ConfigError, match="without it"):
        course(RunConfig.model_validate(private))


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it is the time of day")
def test_waiting_costs_nothing_and_work_does():
    began = clock.now()
    time.sleep(0.3)
    waited, began = clock.now() - began, clock.now()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert 2 * waited < clock.now() - began


def test_by_the_real_clock_it_keeps_to_its_budget(shard, tmp_path):
    ours = train_small(shard, budget=0.5, out=tmp_path / "run")
    assert ours.facts.seconds >= 0.5
    assert ours.facts.images_seen >= 5


# --- trained methods -------------------------------------------------------------------------


def test_an_autoencoder_samples_as_its_codes_are_spread(shard, tmp_path, ticking):
    ours = train_small(shard, "ae", budget=2.0, out=tmp_path / "run")
    rows = shard.rows("train")
    codes = ours.encode(shard.images(rows), shard.landmarks(rows))[:, 24:]
    drawn = ours.sample(20_000, seed=1)
    assert isinstance(ours, Ours)
    assert drawn.shape == (20_000, 28)
    assert np.abs(drawn[:, :24].std(axis=0) - 1).max() < 0.05
    np.testing.assert_allclose(
        np.cov(drawn[:, 24:], rowvar=False),
        np.cov(codes, rowvar=False, bias=True),
        atol=0.05 * codes.var(axis=0).max(),
    )
    np.testing.assert_array_equal(drawn[:5], ours.sample(20_000, seed=1)[:5])


@given(seed=st.integers(0, 2**16), numbers=st.integers(1, 5), count=st.integers(2, 30))
@settings(max_examples=20)
def test_a_fitted_gaussian_has_mean_and_covariance_of_the_codes(seed, numbers, count):
    rng = np.random.default_rng(seed)
    codes = (rng.standard_normal((count, numbers)) @ rng.standard_normal((numbers, numbers))) + 3
    found = fitted_gaussian(codes.astype(np.float32))
    wanted = np.atleast_2d(np.cov(codes, rowvar=False, bias=True))
    np.testing.assert_allclose(found.factor.T @ found.factor, wanted, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.of(np.zeros((1, numbers), np.float32))[0], codes.mean(0), 1e-4)


def test_the_textbook_model_has_its_shapes_and_size():
    model = TextbookVAE()
    assert 5e6 < count_parameters(model) < 7.5e6
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    made = model(images, torch.Generator().manual_seed(0))
    assert made.images.shape == images.shape
    assert made.posterior.mean.shape == made.posterior.log_var.shape == (2, 128)
    assert float(made.images.detach().abs().max()) <= 1
    (made.images.sum() + made.posterior.log_var.sum()).backward()
    unreached = {name for name, p in model.named_parameters() if p.grad is None}
    assert not unreached


def test_the_textbook_model_follows_its_seed_and_leaves_the_global_stream():
    before = torch.random.get_rng_state()
    a, b, c = (TextbookVAE.seeded(32, 4, seed=seed).from_code.weight for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_textbook_trainer_learns_and_reports_the_terms_it_is_given(shard):
    config = textbook_config(LossConfig(l1=1.0, squared=1.0, adversarial=0.1), latent_dim=8)
    trainer, rows = TextbookTrainer(config), shard.rows("train")
    losses = [trainer.step(shard, rows, Moment(0.5, 0, step)) for step in range(5)]
    assert losses[0].keys() == {"l1", "squared", "kl", "loss"}
    assert losses[-1]["l1"] < losses[0]["l1"]
    weighed = losses[0]["l1"] + losses[0]["squared"] + 1e-3 / 8 * losses[0]["kl"]
    assert losses[0]["loss"] == pytest.approx(weighed, rel=1e-4)


def test_the_textbook_trainer_refuses_what_is_no_number(shard):
    trainer = TextbookTrainer(textbook_config(LossConfig(), latent_dim=8))
    with torch.no_grad():
        trainer.model.mean.bias.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="epoch 2, step 4"):
        trainer.step(shard, shard.rows("train"), Moment(0.5, 1, 3))
    with pytest.raises(TrainingDiverged, match=r"mean\.bias"):
        trainer.check_weights(Moment(0.5, 1, 3))


def test_the_textbook_codes_do_not_depend_on_the_batch(shard, tmp_path, ticking):
    """BatchNorm uses its running moments outside of training."""
    made = textbook_small(LossConfig()).complete(shard, budget=2.0, out=tmp_path / "run")
    assert isinstance(made, Textbook)
    rows = shard.rows("val")
    pixels, landmarks = shard.images(rows), shard.landmarks(rows)
    together = made.encode(pixels, landmarks)
    alone = np.concatenate([made.encode(pixels[i : i + 1], landmarks) for i in range(VAL)])
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-5)
    assert made.decode(made.sample(3, seed=0)).shape == (3, SIZE, SIZE, 3)


# --- finished models -------------------------------------------------------------------------


def test_the_starter_is_a_method_like_the_others():
    rung = released("starter")
    bundle = open_bundle(find_model("starter"))
    method = Released(bundle)
    faces, points = smooth_faces(3), shapes(3)
    codes = method.encode(faces, points)
    assert codes.shape == (3, 128)
    assert method.decode(codes).shape == faces.shape
    np.testing.assert_array_equal(method.sample(4, seed=1), method.sample(4, seed=1))
    assert (rung.name, rung.recipe) == ("starter", bundle.manifest.networks)

    config = RunConfig.model_validate(bundle.manifest.config)
    facts, said = method.facts, bundle.manifest.training
    assert facts.parameters == count_parameters(build_model(config.model))
    assert facts.images_seen == said["rounds"] * config.federation.local_epochs * said["examples"]
    assert f"{said['sites']} sites, {said['rounds']} rounds" in facts.note


def test_a_plain_autoencoder_has_no_prior_to_draw_from():
    bundle = open_bundle(find_model("starter"))
    plain = replace(bundle, manifest=bundle.manifest.model_copy(update={"kind": "ae"}))
    assert Released(plain).sample(4, seed=0) is None


def test_a_model_trained_in_one_place_says_its_epochs():
    bundle = open_bundle(find_model("starter"))
    training = {"epochs": 3, "examples": 10, "seconds": 2.0}
    config = {**bundle.manifest.config, "start": ""}
    manifest = bundle.manifest.model_copy(update={"training": training, "config": config})
    facts = facts_of(replace(bundle, manifest=manifest))
    assert (facts.images_seen, facts.seconds) == (30, 2.0)
    assert facts.note.endswith("3 epochs in one place")
