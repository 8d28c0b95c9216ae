"""Central training: a run directory that survives a kill at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facemorph_core.config.load import dump_run_config, load_run_config
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ConfigError, ModelError, OutputError, TrainingDiverged
from facemorph_core.learning.training import central
from facemorph_core.learning.training.central import train_centrally
from facemorph_core.learning.training.central_run import CentralRun, choose_run, read_state
from facemorph_core.shards.shard import IndexRow, Shard, write_shard


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """Twelve made faces to train on and four of other people to score."""
    coarse = torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=(128, 128), mode="bilinear")
    faces = smooth.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    index = [
        IndexRow(
            digest=f"{i:064x}", person=f"p{i}", split="train" if i < 12 else "val", attributes={}
        )
        for i in range(16)
    ]
    out = tmp_path_factory.mktemp("shard") / "shard"
    return write_shard(out, faces, np.zeros((16, 68, 2), np.float32), index)


def run_config(shard: Shard, kind: str = "vae", **sections: dict[str, object]) -> RunConfig:
    defaults: dict[str, dict[str, object]] = {
        "data": {"source": "shard", "path": str(shard.path)},
        "model": {"kind": kind, "width": 8, "latent_dim": 8},
        "loss": {"adversarial": 0.01 if kind == "vaegan" else 0.0},
        "training": {
            "epochs": 3,
            "batch_size": 5,
            "precision": "float32",
            "ema_decay": 0.9,
            "threads": 1,
            "schedule": "cosine",
        },
        "evaluation": {"samples": 4},
    }
    merged = {k: defaults.get(k, {}) | sections.get(k, {}) for k in {*defaults, *sections}}
    return RunConfig.model_validate({"name": "test", "seed": 4, **merged})


def whole(config: RunConfig, shard: Shard, path: Path, **options: object) -> Path:
    with CentralRun.held(path, config) as run:
        train_centrally(config, shard, run, **options)
    return path


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def final(path: Path, epoch: int = 3) -> dict[str, torch.Tensor]:
    return load_file(path / "checkpoints" / f"epoch-{epoch:04d}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Stopped(BaseException):
    """As Ctrl-C: nothing may keep it, and the state says that it came."""


def test_a_run_leaves_its_directory_in_order(shard, tmp_path):
    config = run_config(shard, training={"epochs": 5})
    path = whole(config, shard, tmp_path / "run")
    assert load_run_config(path / "config.yaml") == config
    assert [line["epoch"] for line in lines(path)] == [1, 2, 3, 4, 5]
    assert {"psnr", "ssim", "l1", "squared_error", "faces", "images"} <= lines(path)[-1].keys()
    assert {"loss", "l1", "kl"} == lines(path)[-1]["training"].keys()
    assert lines(path)[-1]["images"] == 12
    assert (path / "samples" / "epoch-0005.png").exists()
    state = read_state(path)
    assert (state.epoch, state.step, state.status) == (5, 0, "completed")
    kept = {file.name for file in (path / "checkpoints").iterdir()}
    epochs = {4, 5, state.best_epoch}
    assert kept == {f"epoch-{n:04d}.safetensors" for n in epochs} | {state.trainer}
    best = max(lines(path), key=lambda line: line["psnr"])
    assert (state.best_epoch, state.best_psnr) == (best["epoch"], best["psnr"])


def test_the_checkpoint_is_the_released_model_of_encoder_and_decoder_alone(shard, tmp_path):
    config = run_config(shard, "vaegan", training={"epochs": 1})
    with CentralRun.held(tmp_path / "run", config) as run:
        model = train_centrally(config, shard, run)
    assert same(final(tmp_path / "run", 1), model.state_dict())
    assert {name.partition(".")[0] for name in model.state_dict()} == {"encoder", "decoder"}


@pytest.mark.parametrize("kind", ["vae", "vaegan"])
def test_stopped_within_an_epoch_it_ends_as_if_it_never_was(shard, tmp_path, kind):
    """Optimiser, running mean, discriminator, schedules and random streams all go on."""
    config = run_config(shard, kind, training={"epochs": 2})
    reference = whole(config, shard, tmp_path / "reference")

    def stop(done: int, total: int, terms: object) -> None:
        if done == 5:  # the second step of the second epoch; the first one is on disk
            raise Stopped

    with pytest.raises(Stopped):
        whole(config, shard, tmp_path / "run", on_step=stop, checkpoint_seconds=0.0)
    state = read_state(tmp_path / "run")
    assert (state.epoch, state.step, state.status) == (1, 1, "failed")
    steps: list[int] = []
    whole(config, shard, tmp_path / "run", on_step=lambda done, *_: steps.append(done))
    assert steps == [5, 6]
    assert same(final(tmp_path / "run", 2), final(reference, 2))
    for one, other in zip(lines(tmp_path / "run"), lines(reference), strict=True):
        assert one["training"] == pytest.approx(other["training"])
        assert one["psnr"] == other["psnr"]


def test_a_line_without_its_checkpoint_is_not_counted_twice(shard, tmp_path, monkeypatch):
    config = run_config(shard)

    def die(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(CentralRun, "save_epoch", die)
        with pytest.raises(Stopped):
            whole(config, shard, tmp_path / "run")
    assert len(lines(tmp_path / "run")) == 1
    whole(config, shard, tmp_path / "run")
    assert [line["epoch"] for line in lines(tmp_path / "run")] == [1, 2, 3]


TRAINING = """
import torch
torch.set_num_threads(1)
from facemorph_core.cli.main import main
main()
"""
DYING = (
    """
import os, signal
from facemorph_core.learning.training import central_run
append, kept = central_run.append_metrics, []
def append_and_die(*line):
    append(*line)
    kept.append(line)
    if len(kept) == 2:  # a line is there, its checkpoint is not
        os.kill(os.getpid(), signal.SIGKILL)
central_run.append_metrics = append_and_die
"""
    + TRAINING
)


def test_a_killed_process_is_resumed_and_ends_with_the_same_weights(shard, tmp_path):
    config = run_config(shard, training={"epochs": 5})
    (tmp_path / "config.yaml").write_text(dump_run_config(config))
    words = ["train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", DYING, *words], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    state = read_state(tmp_path / "run")
    assert 1 <= state.epoch < 5
    assert state.status == "running"

    command = [sys.executable, "-c", TRAINING, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "run")
    assert "epoch 5: loss" in done.stderr
    assert [line["epoch"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4, 5]
    reference = whole(config, shard, tmp_path / "reference")
    assert same(final(tmp_path / "run", 5), final(reference, 5))


def test_a_finished_run_has_nothing_left_to_do(shard, tmp_path):
    config = run_config(shard)
    path = whole(config, shard, tmp_path / "run")
    before = (path / "metrics.jsonl").read_bytes()
    whole(config, shard, path, on_step=lambda *_: pytest.fail("it trained again"))
    assert (path / "metrics.jsonl").read_bytes() == before


def test_a_divergence_is_noted_and_the_last_checkpoint_stays(shard, tmp_path, monkeypatch):
    config = run_config(shard)

    def diverge(done: int, *_: object) -> None:
        if done == 3:  # the end of the first epoch
            monkeypatch.setattr(central.Trainer, "step", raises)

    def raises(*_: object) -> dict[str, float]:
        raise TrainingDiverged("no longer a finite number: l1")

    with pytest.raises(TrainingDiverged):
        whole(config, shard, tmp_path / "run", on_step=diverge)
    state = read_state(tmp_path / "run")
    assert (state.epoch, state.status) == (1, "failed")
    assert "l1" in state.error
    assert final(tmp_path / "run", 1)


def test_only_some_epochs_are_scored_and_the_last_always(shard, tmp_path):
    config = run_config(shard, evaluation={"every": 2})
    path = whole(config, shard, tmp_path / "run")
    assert ["psnr" in line for line in lines(path)] == [False, True, True]


# --- who may use a directory -----------------------------------------------------------------


def test_a_directory_of_another_config_is_refused(shard, tmp_path):
    path = whole(run_config(shard, training={"epochs": 1}), shard, tmp_path / "run")
    with pytest.raises(OutputError, match="another config"):
        whole(run_config(shard), shard, path)


def test_two_trainings_do_not_share_a_directory(shard, tmp_path):
    config = run_config(shard)
    with (
        CentralRun.held(tmp_path / "run", config),
        pytest.raises(OutputError, match="in use"),
        CentralRun.held(tmp_path / "run", config),
    ):
        pass


def test_a_federated_run_or_a_damaged_state_is_not_overwritten(shard, tmp_path):
    (tmp_path / "state.json").write_text('{"id": "00", "round": 3}')
    with pytest.raises(OutputError, match="not a run of central training"):
        whole(run_config(shard), shard, tmp_path)


def test_a_damaged_checkpoint_is_said(shard, tmp_path):
    config = run_config(shard)
    path = whole(config, shard, tmp_path / "run")
    state = json.loads((path / "state.json").read_text())
    (path / "checkpoints" / state["trainer"]).write_bytes(b"?")
    with pytest.raises(ModelError, match="cannot be read"):
        whole(config, shard, path)


def test_resume_decides_which_folder_a_run_takes(shard, tmp_path):
    def choose(mode: str, **sections: dict[str, object]) -> str:
        config = run_config(shard, **sections).model_copy(update={"resume": mode})
        return choose_run(tmp_path, config).name

    assert choose("auto") == choose("never") == "test-central"
    with pytest.raises(OutputError, match="no central run of this config"):
        choose("must")
    whole(run_config(shard), shard, tmp_path / "test-central")
    assert choose("auto") == choose("must") == "test-central"
    assert choose("never") == "test-central-2"
    assert choose("auto", training={"epochs": 9}) == "test-central-2"


def test_privacy_is_not_ignored(shard, tmp_path):
    config = run_config(shard, privacy={"noise_multiplier": 1.0})
    with pytest.raises(ConfigError, match="baseline without differential privacy"):
        whole(config, shard, tmp_path / "run")
