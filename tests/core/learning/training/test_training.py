"""A local round: what it does to the model, and what it promises when it fails."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.schema import LossConfig, RunConfig, TrainingConfig
from facemorph_core.errors import ConfigError, ModelError, ShardError, TrainingDiverged
from facemorph_core.learning.losses.identity import IdentityDistance
from facemorph_core.learning.models import Autoencoder, Reconstruction, build_model
from facemorph_core.learning.training import compute
from facemorph_core.learning.training.batches import Batch, epoch_batches, to_images
from facemorph_core.learning.training.checkpoint import optimiser_tensors, restore_optimiser
from facemorph_core.learning.training.compute import Compute, choose_compute, cpu_threads
from facemorph_core.learning.training.ema import Ema
from facemorph_core.learning.training.local import (
    DiscriminatorState,
    LocalRound,
    evaluate_shard,
    take_steps,
    train_epochs,
)
from facemorph_core.learning.training.objective import FeatureNets, reconstruction_terms
from facemorph_core.learning.training.optimiser import adam
from facemorph_core.learning.training.reconstruct import to_pixels
from facemorph_core.learning.training.schedule import (
    adversarial_weight,
    kl_weight,
    learning_rate,
    share_at,
)
from facemorph_core.learning.training.streams import stream
from facemorph_core.learning.training.trainer import Moment, Tally, Trainer, add_proximal_gradient
from facemorph_core.machine.cores import granted
from facemorph_core.shards.rows import spread


@dataclass
class Faces:
    """Smooth colour patches in memory: as much of a shard as training reads."""

    pixels: np.ndarray
    splits: np.ndarray

    @classmethod
    def made(cls, train: int, val: int = 3, size: int = 32) -> Faces:
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(train + val, 3, 3, 3, generator=generator) * 255
        smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
        pixels = smooth.to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return cls(np.ascontiguousarray(pixels), np.array(["train"] * train + ["val"] * val))

    @property
    def size(self) -> int:
        return self.pixels.shape[1]

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.splits == split)

    def images(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[rows]

    def landmarks(self, rows: np.ndarray) -> np.ndarray:
        return np.tile(mean_shape(self.size).astype(np.float32), (len(rows), 1, 1))


def run_config(kind: str = "vae", **sections: dict[str, object]) -> RunConfig:
    defaults: dict[str, dict[str, object]] = {
        "model": {"kind": kind, "image_size": 32, "width": 8, "latent_dim": 8},
        "training": {"batch_size": 8, "learning_rate": 1e-3, "precision": "float32"},
    }
    if kind == "vaegan":
        defaults["loss"] = {"adversarial": 0.01}
        defaults["model"]["discriminator_width"] = 8
    merged = {
        name: defaults.get(name, {}) | sections.get(name, {}) for name in {*defaults, *sections}
    }
    return RunConfig.model_validate({"name": "test", **merged})


def trained(config: RunConfig, faces: Faces, **options: object) -> tuple[Autoencoder, object]:
    model = build_model(config.model)
    rival = options.pop("discriminator", None)
    work = LocalRound(config, **{"epochs": 1, **options})
    return model, train_epochs(model, faces, work, discriminator=rival)


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- a round ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ae", "vae", "vaegan"])
def test_training_makes_reconstructions_better(kind):
    config, faces = run_config(kind, training={"learning_rate": 4e-3}), Faces.made(16)
    model = build_model(config.model)
    before = evaluate_shard(model, faces, "train", config)
    outcome = train_epochs(model, faces, LocalRound(config, epochs=25))
    after = evaluate_shard(model, faces, "train", config)
    assert after["l1"] < 0.9 * before["l1"]
    assert after["psnr"] > before["psnr"]
    assert outcome.examples == 16
    assert outcome.metrics["images"] == 25 * 16


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        ("ae", ["l1", "latent_l2", "loss"]),
        ("vae", ["l1", "kl", "loss"]),
        ("vaegan", ["adversarial", "discriminator", "kl", "l1", "loss"]),
    ],
)
def test_one_config_always_reports_the_same_terms(kind, terms):
    config = run_config(
        kind, loss={"adversarial_start": 0.5, "adversarial": 0.1 * (kind == "vaegan")}
    )
    faces = Faces.made(9)
    early = trained(config, faces, progress=(0.0, 0.1))[1].metrics
    late = trained(config, faces, progress=(0.9, 1.0))[1].metrics
    assert sorted(early) == sorted(late) == sorted([*terms, "images", "seconds"])
    assert all(math.isfinite(value) for value in (early | late).values())
    if kind == "vaegan":
        assert early["adversarial"] == 0
        assert late["adversarial"] > 0


def test_one_seed_gives_one_model_and_no_global_stream_is_touched():
    config, faces = run_config("vaegan"), Faces.made(10)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = flat(trained(config, faces, seed=5)[0])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(flat(trained(config, faces, seed=5)[0]), first)
    assert not torch.equal(flat(trained(config, faces, seed=6)[0]), first)


@pytest.mark.parametrize(("faces", "size", "steps"), [(3, 8, 1), (8, 8, 1), (9, 8, 2), (1, 8, 1)])
def test_every_face_is_seen_once_an_epoch_however_few_there_are(faces, size, steps):
    config = run_config(training={"batch_size": size})
    seen: list[tuple[int, int]] = []
    _, outcome = trained(config, Faces.made(faces), on_step=lambda i, n, _: seen.append((i, n)))
    assert seen == [(i + 1, steps) for i in range(steps)]
    assert (outcome.examples, outcome.metrics["images"]) == (faces, faces)


def test_ordinary_training_does_not_wait_for_opacus():
    """A site starts a process for every message."""
    script = "import sys, facemorph_core.learning.training.local; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert not {"opacus", "facemorph_core.learning.training.private"} & {*loaded}


def test_a_round_of_no_epoch_is_none():
    with pytest.raises(ValueError, match="at least one epoch, not 0"):
        LocalRound(run_config(), epochs=0)


class Pulling:
    """A user's own gradients: those of half the squared distance from ``target``."""

    longest, discriminator = math.inf, None

    def __init__(self, config: RunConfig, target: float) -> None:
        self.config, self.target = config, target
        self.compute = Compute(torch.device("cpu"), bfloat16=False)
        self.model = build_model(config.model)

    def fill(self, faces: Faces, rows: np.ndarray, at: Moment) -> dict[str, float]:
        for p in self.model.parameters():
            p.grad = p.detach() - self.target
        return {"loss": 0.0}


def test_own_gradients_are_stepped_along_like_any_other():
    trainer = Trainer(Pulling(run_config(training={"ema_decay": 0.5}), target=1.0))
    far = (flat(trainer.model) - 1).norm()
    work = LocalRound(trainer.config, epochs=1)
    batches = [np.array([0])] * 50
    take_steps(trainer, Faces.made(1), work, [batches], steps=len(batches))
    assert (flat(trainer.model) - 1).norm() < 0.99 * far
    assert trainer.ema.updates == 50


def test_a_shard_without_training_faces_is_refused():
    with pytest.raises(ShardError, match="no face in its 'train' split"):
        trained(run_config(), Faces.made(0))


def test_faces_of_another_size_are_refused():
    with pytest.raises(ModelError, match="64 px, the model wants 32 px"):
        trained(run_config(), Faces.made(4, size=64))


@pytest.mark.parametrize("kind", ["vae", "vaegan"])
def test_after_a_divergence_the_model_and_the_discriminator_are_what_they_were(kind):
    config = run_config(kind, training={"learning_rate": 1e30, "grad_clip": 0})
    model, adversary = build_model(config.model), None
    if kind == "vaegan":
        adversary = DiscriminatorState.fresh(config, seed=0)
    before, before_adversary = flat(model), adversary and flat(adversary.network)
    work = LocalRound(config, epochs=3)
    with pytest.raises(TrainingDiverged, match=r"epoch \d, step \d") as caught:
        train_epochs(model, Faces.made(20), work, discriminator=adversary)
    assert "learning_rate" in caught.value.hint
    assert torch.equal(flat(model), before)
    if adversary is not None:
        assert torch.equal(flat(adversary.network), before_adversary)


def test_the_term_that_is_no_longer_a_number_is_named():
    config, model = run_config(), build_model(run_config().model)
    with torch.no_grad():
        model.encoder.head.bias[8:] = 100.0  # log-variances at their bound: KL is huge, finite
        model.decoder.head.bias.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match=r"l1 \(nan\)"):
        train_epochs(model, Faces.made(4), LocalRound(config, epochs=1))


def test_a_model_comes_back_at_rest():
    model, _ = trained(run_config(), Faces.made(4))
    assert not model.training
    assert all(p.grad is None and p.is_contiguous() for p in model.parameters())


def test_bfloat16_keeps_float32_weights_and_learns_the_same():
    faces = Faces.made(16)
    exact, rough = (
        trained(run_config(training={"precision": p}), faces, epochs=8)[1].metrics["l1"]
        for p in ("float32", "bfloat16")
    )
    assert rough == pytest.approx(exact, rel=0.05)
    model, _ = trained(run_config(training={"precision": "bfloat16"}), faces)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_with_a_running_mean_the_mean_is_what_the_round_leaves():
    faces = Faces.made(16)
    last = trained(run_config(), faces, epochs=4)[0]
    mean = trained(run_config(training={"ema_decay": 0.99}), faces, epochs=4)[0]
    start = build_model(run_config().model)
    assert not torch.equal(flat(mean), flat(last))
    assert 0 < (flat(mean) - flat(start)).norm() < (flat(last) - flat(start)).norm()


# --- FedProx ---------------------------------------------------------------------------------


@settings(max_examples=5)
@given(mu=st.floats(0.001, 10))
def test_the_proximal_gradient_is_that_of_half_mu_times_the_squared_distance(mu):
    model = build_model(run_config().model)
    anchor = [p.detach() + 0.1 * torch.randn_like(p) for p in model.parameters()]
    term = (
        0.5
        * mu
        * sum((p - a).square().sum() for p, a in zip(model.parameters(), anchor, strict=True))
    )
    expected = torch.autograd.grad(term, list(model.parameters()))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    value = add_proximal_gradient(model, anchor, mu)
    assert value == pytest.approx(float(term.detach()), rel=1e-4)
    for p, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad - 1, gradient, rtol=1e-3, atol=1e-5)


def test_a_strong_proximal_term_keeps_the_weights_near_their_start():
    faces, config = Faces.made(16), run_config(training={"batch_size": 4})
    start = flat(build_model(config.model))
    free, held = (
        (flat(trained(config, faces, epochs=6, proximal_mu=mu)[0]) - start).norm()
        for mu in (0.0, 100.0)
    )
    assert held < 0.7 * free


# --- the discriminator -----------------------------------------------------------------------


def test_the_discriminator_survives_on_disk_with_its_optimiser(tmp_path: Path):
    config, faces = run_config("vaegan"), Faces.made(8)
    kept = DiscriminatorState.fresh(config, seed=1)
    trained(config, faces, discriminator=kept)
    kept.save(tmp_path / "d.safetensors")
    loaded = DiscriminatorState.load(tmp_path / "d.safetensors", config)
    assert (
        loaded.optimiser.state_dict()["state"].keys() == kept.optimiser.state_dict()["state"].keys()
    )
    one = trained(config, faces, seed=3, discriminator=kept)[0]
    other = trained(config, faces, seed=3, discriminator=loaded)[0]
    assert torch.equal(flat(one), flat(other))
    assert torch.equal(flat(kept.network), flat(loaded.network))


def test_the_optimiser_follows_its_discriminator_to_another_device():
    """As it must from a file, read on the CPU, to a GPU; here to a device that holds no numbers."""
    kept = DiscriminatorState.fresh(run_config("vaegan"), seed=1)
    trained(run_config("vaegan"), Faces.made(8), discriminator=kept)
    assert any(name.startswith("optimiser/") for name in kept.tensors())
    kept.to(torch.device("meta"))
    assert all(tensor.is_meta for tensor in kept.tensors().values())


def test_a_damaged_or_foreign_discriminator_is_refused(tmp_path: Path):
    config, path = run_config("vaegan"), tmp_path / "d.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        DiscriminatorState.load(path, config)
    DiscriminatorState.fresh(config, seed=0).save(path)
    wider = run_config("vaegan", model={"discriminator_width": 16})
    with pytest.raises(ModelError, match="discriminator_width"):
        DiscriminatorState.load(path, wider)


def test_the_discriminator_learns_and_the_generators_step_leaves_it_alone():
    config, faces = run_config("vaegan"), Faces.made(8)
    state = DiscriminatorState.fresh(config, seed=0)
    made = torch.rand(4, 3, 32, 32, requires_grad=True)
    state.fools(made, made).sum().backward()
    assert made.grad.abs().max() > 0
    assert all(p.grad is None for p in state.network.parameters())
    before = flat(state.network)
    trained(config, faces, discriminator=state)
    assert not torch.equal(flat(state.network), before)


def test_optimiser_state_keeps_its_meaning_when_the_memory_order_differs():
    """The fused kernels walk through memory: contiguous moments beside channels-last weights
    would update the wrong numbers without a word."""
    torch.manual_seed(0)
    config = TrainingConfig(learning_rate=1e-2)
    nets = [torch.nn.Conv2d(4, 6, 3) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        net.to(memory_format=torch.channels_last)
    first, second = (adam(net.parameters(), config) for net in nets)
    inputs = torch.randn(2, 4, 8, 8)

    def step(net: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        net(inputs).square().sum().backward()
        optimiser.step()

    step(nets[0], first)
    nets[1].load_state_dict(nets[0].state_dict())
    plain = {
        name: value.contiguous()
        for name, value in optimiser_tensors(first, dict(nets[0].named_parameters())).items()
    }
    restore_optimiser(second, dict(nets[1].named_parameters()), plain)
    for net, optimiser in zip(nets, (first, second), strict=True):
        step(net, optimiser)
    assert torch.equal(nets[0].weight, nets[1].weight)


# --- schedules, streams, batches -------------------------------------------------------------


@given(share=st.floats(0, 1), warmup=st.floats(0, 0.9))
def test_the_learning_rate_never_passes_its_highest(share, warmup):
    for schedule in ("constant", "cosine"):
        config = TrainingConfig(learning_rate=1e-3, schedule=schedule, warmup=warmup)
        assert 0 <= learning_rate(config, share) <= 1e-3 * (1 + 1e-9)


def test_the_learning_rate_rises_to_its_highest_and_a_cosine_ends_at_zero():
    config = TrainingConfig(learning_rate=1.0, schedule="cosine", warmup=0.2)
    assert learning_rate(config, 0.1) == pytest.approx(0.5)
    assert learning_rate(config, 0.2) == pytest.approx(1.0)
    assert learning_rate(config, 0.6) == pytest.approx(0.5)
    assert learning_rate(config, 1.0) == pytest.approx(0.0)


@given(rounds=st.integers(1, 8), steps=st.integers(1, 8))
def test_rounds_continue_the_schedule_where_the_last_one_stopped(rounds, steps):
    whole = [share_at((0.0, 1.0), step, rounds * steps) for step in range(rounds * steps)]
    parts = [
        share_at((r / rounds, (r + 1) / rounds), step, steps)
        for r in range(rounds)
        for step in range(steps)
    ]
    assert parts == pytest.approx(whole)


def test_the_kl_weight_rises_over_its_warmup_and_the_adversary_waits_for_its_start():
    loss = LossConfig(kl=2.0, kl_warmup=0.5, adversarial=1.0, adversarial_start=0.5)
    assert [kl_weight(loss, share) for share in (0.0, 0.25, 0.5, 1.0)] == [0, 1, 2, 2]
    assert kl_weight(LossConfig(kl=2.0, kl_warmup=0), 0.0) == 2
    assert [adversarial_weight(loss, share) for share in (0.49, 0.5)] == [0, 1]


def test_streams_differ_by_purpose_and_place_and_repeat_exactly():
    places = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", 1, 2)]
    draws = [torch.rand(4, generator=stream(*place)) for place in places]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(places)
    assert torch.equal(draws[0], torch.rand(4, generator=stream(0, "a")))


@given(count=st.integers(1, 50), size=st.integers(1, 20))
def test_an_epoch_holds_every_row_exactly_once(count, size):
    rows = np.arange(100, 100 + count)
    batches = epoch_batches(rows, size, stream(0, "order"))
    assert sorted(np.concatenate(batches)) == rows.tolist()
    assert all(len(batch) == size for batch in batches[:-1])


def test_pixels_become_numbers_from_minus_one_to_one_and_back():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = to_images(pixels, torch.device("cpu"))
    assert (images.min(), images.max()) == (-1, 1)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(to_pixels(images), pixels)


class Distances(IdentityDistance):
    """As if every made face were as far away as its first value says."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, made, real, places):
        assert len(made) == len(real) == len(places)
        return made[:, 0, 0, 0]


@given(count=st.integers(1, 12), looked_at=st.integers(1, 12))
def test_the_identity_term_of_some_faces_stands_for_all(count, looked_at):
    looked_at, images = min(count, looked_at), torch.rand(count, 3, 4, 4)
    seen = Batch(images, 1.0, torch.zeros(looked_at, 112, 112, 2))
    made = Reconstruction(images, torch.zeros(count, 4), None)
    config = run_config(loss={"l1": 1.0, "kl": 0.0, "identity": 1.0})
    nets = FeatureNets(identity=Distances())
    term = reconstruction_terms(made, seen, config, nets=nets, crops=stream(0, "crop"))["identity"]
    assert term.shape == (count,)
    torch.testing.assert_close(term.mean(), images[:looked_at, 0, 0, 0].mean())
    assert (term[looked_at:] == 0).all()


def test_the_running_mean_of_constant_weights_is_those_weights():
    net = torch.nn.Linear(2, 2)
    ema, weights = Ema(net, 0.9), flat(net).clone()
    for _ in range(20):
        ema.update(net)
    ema.copy_to(net)
    torch.testing.assert_close(flat(net), weights)


def test_the_running_mean_forgets_where_it_started():
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.weight, 100.0)
    ema = Ema(net, 0.999)
    torch.nn.init.constant_(net.weight, 0.0)
    for _ in range(50):
        ema.update(net)
    assert float(ema.mean["weight"]) < 0.01


def test_means_weigh_every_image_alike():
    tally = Tally()
    tally.add({"l1": 1.0}, 3)
    tally.add({"l1": 5.0}, 1)
    assert tally.means() == {"l1": 2.0}


# --- where it runs ---------------------------------------------------------------------------


def test_auto_takes_bfloat16_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)  # what a machine may be held to
    for found, expected in (({"amx_bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert choose_compute(TrainingConfig()) == Compute(torch.device("cpu"), expected)
    assert choose_compute(TrainingConfig(precision="bfloat16")).bfloat16
    assert not choose_compute(TrainingConfig(precision="float32")).bfloat16


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compute.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        choose_compute(TrainingConfig(device="cuda"))


def test_the_number_of_threads_comes_back():
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with cpu_threads(0):
        assert torch.get_num_threads() == granted(before)


# --- scores ----------------------------------------------------------------------------------


def test_scores_are_sums_that_add_up_over_parts_of_a_shard():
    config, faces = run_config(), Faces.made(6)
    model = build_model(config.model)
    whole = evaluate_shard(model, faces, "train", config)
    parts = []
    for half in (slice(0, 2), slice(2, 6)):
        part = Faces(faces.pixels[half], faces.splits[half])
        parts.append(evaluate_shard(model, part, "train", config))
    assert whole["examples"] == 6
    for name, value in whole.items():
        assert parts[0][name] + parts[1][name] == pytest.approx(value, rel=1e-5)


def test_an_empty_split_scores_nothing_and_a_limit_takes_the_same_faces():
    config, faces = run_config(), Faces.made(6, val=0)
    model = build_model(config.model)
    assert set(evaluate_shard(model, faces, "val", config).values()) == {0.0}
    limited = evaluate_shard(model, faces, "train", config, max_faces=2)
    assert limited == evaluate_shard(model, faces, "train", config, max_faces=2)
    assert limited["examples"] == 2
    assert spread(np.arange(6), 2).tolist() == [0, 5]
