"""Training on a GPU is training on the CPU, elsewhere: `make test-gpu` where there is one.

Sums run in another order there, so numbers agree within a tolerance, not to the last digit; what
is random is drawn on the CPU and is the same.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.vgg import cfgs, make_layers

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import TrainingDiverged
from facemorph_core.learning.losses.identity import MobileFaceNet
from facemorph_core.learning.models import Autoencoder, build_model
from facemorph_core.learning.privacy import Heads, SiteLedger, SiteLimits
from facemorph_core.learning.privacy.secret import Secret
from facemorph_core.learning.training import trainer
from facemorph_core.learning.training.central import train_centrally
from facemorph_core.learning.training.central_run import CentralRun
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.learning.training.discriminator import DiscriminatorState
from facemorph_core.learning.training.evaluate import evaluate_shard
from facemorph_core.learning.training.gradients import BatchGradients
from facemorph_core.learning.training.local import LocalRound, TrainedRound, train_epochs
from facemorph_core.learning.training.private import train_privately
from facemorph_core.shards.shard import IndexRow, Shard, write_shard

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

TRAINED, KEPT = 24, 8


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """Made faces with landmarks near those of a mean face."""
    count = TRAINED + KEPT
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=(128, 128), mode="bilinear")
    faces = smooth.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    away = np.random.default_rng(0).normal(scale=2, size=(count, 68, 2))
    index = [
        IndexRow(
            digest=f"{i:064x}",
            person=f"p{i}",
            split="train" if i < TRAINED else "val",
            attributes={},
        )
        for i in range(count)
    ]
    out = tmp_path_factory.mktemp("shard") / "shard"
    return write_shard(out, faces, (mean_shape() + away).astype(np.float32), index)


def run_config(device: str, kind: str = "vae", **sections: dict[str, object]) -> RunConfig:
    defaults: dict[str, dict[str, object]] = {
        "model": {"kind": kind, "width": 8, "latent_dim": 32, "geometry": "mean_shape"},
        "loss": {"l1": 0.5, "squared": 0.5, "adversarial": 0.01 if kind == "vaegan" else 0.0},
        "training": {
            "batch_size": 8,
            "learning_rate": 1e-3,
            "light": 0.15,
            "surroundings": 0.3,
            "precision": "float32",
            "device": device,
            "threads": 1,
        },
        "evaluation": {"samples": 4},
    }
    merged = {k: defaults.get(k, {}) | sections.get(k, {}) for k in {*defaults, *sections}}
    return RunConfig.model_validate({"name": "test", "seed": 4, **merged})


def trained(
    config: RunConfig, shard: Shard, *, epochs: int = 2, proximal_mu: float = 0.0
) -> tuple[Autoencoder, TrainedRound]:
    model = build_model(config.model, seed=1)
    work = LocalRound(config, epochs=epochs, seed=2, proximal_mu=proximal_mu)
    return model, train_epochs(model, shard, work)


def on_both(shard: Shard, kind: str = "vae", **sections: dict[str, object]) -> list[TrainedRound]:
    return [trained(run_config(d, kind, **sections), shard)[1] for d in ("cpu", "cuda")]


def assert_terms_agree(cpu: TrainedRound, gpu: TrainedRound, *, within: float) -> None:
    assert cpu.metrics.keys() == gpu.metrics.keys()
    assert cpu.examples == gpu.examples
    for name in cpu.metrics.keys() - {"seconds"}:
        assert gpu.metrics[name] == pytest.approx(cpu.metrics[name], rel=within, abs=1e-6), name


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
@pytest.mark.parametrize("kind", ["ae", "vae", "vaegan"])
def test_a_round_in_float32_has_the_losses_that_it_has_on_the_cpu(shard, kind, optimiser):
    cpu, gpu = on_both(shard, kind, training={"optimiser": optimiser, "ema_decay": 0.9})
    assert_terms_agree(cpu, gpu, within=1e-3)


def test_the_first_gradient_in_float32_is_that_of_the_cpu(shard):
    """Of one step from the same weights: float32 means float32, not a GPU's rounded one."""
    gradients = {}
    for device in ("cpu", "cuda"):
        config = run_config(device, training={"batch_size": TRAINED})
        model = build_model(config.model, seed=1)
        source = BatchGradients(model, config, seed=2)
        source.fill(shard, shard.rows("train"), trainer.Moment(1.0, 0, 0))
        gradients[device] = torch.cat([p.grad.flatten().cpu() for p in model.parameters()])
    away = (gradients["cuda"] - gradients["cpu"]).norm() / gradients["cpu"].norm()
    assert away < 1e-5


def test_a_round_in_bfloat16_is_near(shard):
    cpu, _ = on_both(shard)
    _, gpu = trained(run_config("cuda", training={"precision": "auto"}), shard)
    assert_terms_agree(cpu, gpu, within=0.03)


def test_fedprox_holds_as_it_does_on_the_cpu(shard):
    cpu, gpu = (trained(run_config(d), shard, proximal_mu=0.1)[1] for d in ("cpu", "cuda"))
    assert gpu.metrics["proximal"] > 0
    assert_terms_agree(cpu, gpu, within=1e-3)


def test_the_feature_nets_see_what_they_see_on_the_cpu(shard, tmp_path, monkeypatch):
    """Random nets: the arithmetic is under test, not their knowledge."""
    monkeypatch.setattr("facemorph_core.learning.weights.find", lambda name: tmp_path / name)
    torch.manual_seed(0)
    save_random(tmp_path / "vgg16", make_layers(cfgs["D"]))
    save_random(tmp_path / "mobilefacenet", MobileFaceNet())
    loss = {"perceptual": 1.5, "perceptual_distance": "features", "identity": 0.1}
    cpu, gpu = on_both(shard, loss=loss)
    assert {"perceptual", "identity"} <= cpu.metrics.keys()
    assert_terms_agree(cpu, gpu, within=1e-3)


def test_the_model_comes_back_as_others_expect_it(shard):
    model, _ = trained(run_config("cuda", "vaegan"), shard)
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert all(p.is_contiguous() and p.grad is None for p in model.parameters())
    assert not model.training


def test_a_discriminator_goes_on_from_its_file_on_either_device(shard, tmp_path):
    config = run_config("cuda", "vaegan")
    rival = DiscriminatorState.fresh(config, seed=0)
    model = build_model(config.model, seed=1)
    for device in ("cuda", "cpu", "cuda"):
        here = run_config(device, "vaegan")
        before = copy.deepcopy(rival.network).cpu().state_dict()
        train_epochs(model, shard, LocalRound(here, epochs=1), discriminator=rival)
        after = rival.network.state_dict()
        assert any(not torch.equal(before[name], after[name].cpu()) for name in before)
        rival.save(tmp_path / "rival.safetensors")
        rival = DiscriminatorState.load(tmp_path / "rival.safetensors", here)


def test_what_diverges_there_is_what_it_was(shard):
    config = run_config("cuda", training={"learning_rate": 1e18, "grad_clip": 0.0})
    model = build_model(config.model, seed=1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TrainingDiverged):
        train_epochs(model, shard, LocalRound(config, epochs=3))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_scores_are_those_of_the_cpu(shard):
    model, _ = trained(run_config("cpu"), shard)
    cpu, gpu = (evaluate_shard(model, shard, "val", run_config(d)) for d in ("cpu", "cuda"))
    assert cpu["examples"] == gpu["examples"] == KEPT
    for name, value in cpu.items():
        assert gpu[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_a_run_goes_on_where_there_is_a_gpu_and_where_there_is_none(
    shard, tmp_path, monkeypatch, first, then
):
    """Stopped in its second epoch on one machine, it ends on the other near where it would have."""
    more = {"epochs": 3, "ema_decay": 0.9, "optimiser": "muon"}
    data = {"source": "shard", "path": str(shard.path)}
    config = run_config("auto", "vaegan", data=data, training=more)

    def train(path: Path, device: str, **options: object) -> Autoencoder:
        with monkeypatch.context() as patch, CentralRun.held(path, config) as run:
            if device == "cpu":
                patch.setattr(torch.cuda, "is_available", lambda: False)
            return train_centrally(config, shard, run, **options)

    def stop(done: int, total: int, terms: object) -> None:
        if done == 5:
            raise Stopped

    expected = train(tmp_path / "whole", "cpu")
    with pytest.raises(Stopped):
        train(tmp_path / "run", first, on_step=stop, checkpoint_seconds=0.0)
    found = train(tmp_path / "run", then)
    scores = [evaluate_shard(m, shard, "val", run_config("cpu")) for m in (expected, found)]
    assert scores[1]["psnr"] == pytest.approx(scores[0]["psnr"], rel=1e-3)


class Stopped(BaseException):
    """As Ctrl-C."""


def test_a_private_round_is_charged_and_bounded_as_on_the_cpu(shard, tmp_path):
    privacy = {"noise_multiplier": 1.0, "max_epsilon": 100.0}

    def moved(device: str, state: Path) -> tuple[torch.Tensor, dict[str, float]]:
        """How far a round with known noise takes the weights, and what it says of itself."""
        config = run_config(device, privacy=privacy, training={"surroundings": 0.0})
        model = build_model(config.model, seed=1)
        start = flat(model)
        outcome = train_privately(
            model,
            shard,
            LocalRound(config, epochs=1),
            ledger=SiteLedger(state / "privacy.jsonl", Heads(state / "heads")),
            limits=SiteLimits.of_a_simulation(),
            secret=Secret(bytes(32)),
        )
        return flat(model) - start, outcome.metrics

    cpu, told = moved("cpu", tmp_path / "first")
    gpu, told_there = moved("cuda", tmp_path / "second")
    assert told == told_there
    assert (gpu - cpu).norm() <= 1e-2 * cpu.norm()


@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("kind", ["ae", "vae", "vaegan"])
def test_a_seeded_round_repeats_itself_to_the_last_bit(shard, kind, precision):
    """Without the identity term, whose net's sampling has no such gradient on a GPU."""
    config = run_config("cuda", kind, training={"precision": precision, "optimiser": "muon"})
    first, second = (trained(config, shard)[0] for _ in range(2))
    assert torch.equal(flat(first), flat(second))


def test_the_gradient_of_sampling_is_refused_where_repetition_is_a_promise():
    """The one operation of the losses that a GPU cannot repeat: see `private`."""
    images = torch.rand(1, 3, 8, 8, device="cuda", requires_grad=True)
    grid = torch.zeros(1, 4, 4, 2, device="cuda")
    compute = choose_compute(run_config("cuda").training)

    def gradient() -> torch.Tensor:
        made = torch.nn.functional.grid_sample(images, grid, align_corners=False)
        return torch.autograd.grad(made.sum(), images)[0]

    with compute.repeatable():
        assert gradient().isfinite().all()
    with compute.repeatable(strictly=True), pytest.raises(RuntimeError, match="deterministic"):
        gradient()


def test_what_torch_was_told_before_is_what_it_is_told_after(shard):
    before = torch.backends.cudnn.allow_tf32, torch.get_deterministic_debug_mode()
    trained(run_config("cuda"), shard, epochs=1)
    assert before == (torch.backends.cudnn.allow_tf32, torch.get_deterministic_debug_mode())


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def save_random(path: Path, net: torch.nn.Module) -> None:
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)
