from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from facemorph_core.bundle import open_bundle, verify
from facemorph_core.bundle.archive import unpack
from facemorph_core.bundle.manifest import ENCODER
from facemorph_core.bundle.read import to_model
from facemorph_core.config.load import dump_run_config
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ModelError, OutputError
from facemorph_core.learning.models import Autoencoder, build_model
from facemorph_core.learning.privacy import Spent
from facemorph_core.learning.privacy.told import note
from facemorph_core.learning.release import bundle_run, write_bundle
from facemorph_core.learning.release.from_run import find_checkpoint
from facemorph_core.learning.release.onnx import OPSET, export_half
from facemorph_core.learning.release.write import EXPORT_TOLERANCE

TRAINING: dict[str, Any] = {"rounds": 1}


def config_of(kind: str = "vae", **more: Any) -> RunConfig:
    model = {"kind": kind, "latent_dim": 8, "image_size": 32, "width": 8}
    return RunConfig.model_validate({"name": "tiny", "model": model, **more})


def model_of(kind: str = "vae", *, seed: int = 0) -> Autoencoder:
    """A model far from its start: no weight equals another."""
    model = build_model(config_of(kind).model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def written(model: Autoencoder, out: Path, config: RunConfig | None = None) -> Path:
    plain = (config or config_of()).model_dump(mode="json")
    return write_bundle(model, out, config=plain, training=TRAINING, metrics={})


@pytest.fixture(scope="module")
def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


# --- the graphs ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ae", "vae", "vaegan"])
def test_the_file_computes_what_torch_computes(
    kind: str, tmp_path: Path, pixels: np.ndarray[Any, np.dtype[np.uint8]]
) -> None:
    model = model_of(kind)
    bundle = verify(written(model, tmp_path / "m.facemorph", config_of(kind)))
    half = build_model(config_of(kind).model)
    half.load_state_dict({name: w.half().float() for name, w in model.state_dict().items()})
    with torch.no_grad():
        codes = half.code(torch.from_numpy(to_model(pixels)))
        images = half.decode(codes).permute(0, 2, 3, 1)
    error = np.linalg.norm(bundle.encode(pixels) - codes.numpy(), axis=1)
    assert (error <= EXPORT_TOLERANCE * np.linalg.norm(codes.numpy(), axis=1)).all()
    levels = (images.numpy() + 1) * 127.5
    assert np.abs(bundle.decode(codes.numpy()) - levels).max() < 0.6  # rounding is 0.5


@pytest.mark.parametrize("kind", ["ae", "vae"])
def test_a_fresh_model_keeps_all_its_names(kind: str) -> None:
    """Its biases are all zero and its norms all one: an exporter may merge equal weights."""
    model = build_model(config_of(kind).model)
    names = set()
    for half in ("encoder", "decoder"):
        graph = onnx.load_model_from_string(export_half(model, half, precision="float16"))
        names |= {tensor.name for tensor in graph.graph.initializer}
        assert {tensor.data_type for tensor in graph.graph.initializer} == {
            onnx.TensorProto.FLOAT16
        }
        assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", OPSET)]
    assert names == set(model.state_dict())


def test_weights_are_stored_once_and_at_half_size(tmp_path: Path) -> None:
    model = model_of()
    size = written(model, tmp_path / "m.facemorph").stat().st_size
    halves = 2 * sum(parameter.numel() for parameter in model.parameters())
    assert halves < size < halves + 120_000


def test_exporting_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = model_of().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    written(model, tmp_path / "m.facemorph")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_weights_too_large_for_half_precision_are_stored_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of()
    with torch.no_grad():
        model.encoder.head.weight[0] *= 1e7
    with caplog.at_level(logging.WARNING):
        bundle = verify(written(model, tmp_path / "m.facemorph"))
    assert bundle.manifest.precision == "float32"
    assert "stored as float16 are off" in caplog.text
    stored = bundle.weights()["encoder.head.weight"]
    np.testing.assert_array_equal(stored, model.encoder.head.weight.detach().numpy())


def test_weights_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    model = model_of()
    with torch.no_grad():
        model.decoder.head.bias[0] = float("nan")
    out = tmp_path / "m.facemorph"
    with pytest.raises(ModelError, match="off by nan from torch"):
        written(model, out)
    assert list(tmp_path.iterdir()) == []


def test_a_weight_that_became_infinite_does_not_hide_behind_the_cut(tmp_path: Path) -> None:
    """Half precision ends at 65504; the pictures, cut to [-1, 1], are the same with infinity."""
    model = model_of()
    with torch.no_grad():
        model.decoder.to_pixels.bias.fill_(1e6)
    assert verify(written(model, tmp_path / "m.facemorph")).manifest.precision == "float32"


def test_what_readers_would_refuse_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facemorph_core.bundle.walk.MAX_FACE_BYTES", 1000)
    with pytest.raises(ModelError, match=r"encoder\.onnx would be refused .* bytes for one face"):
        written(model_of(), tmp_path / "m.facemorph")
    assert list(tmp_path.iterdir()) == []


def test_the_exporter_is_quiet(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    written(model_of(), tmp_path / "m.facemorph")
    assert [str(warning.message) for warning in recwarn] == []


def test_an_unwritable_place_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = written(model_of(), tmp_path / "m.facemorph")
    before = out.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="the disk is full"):
        written(model_of(seed=1), out)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_folders_of_the_trainer_stay_private(tmp_path: Path) -> None:
    data = {"source": "celeba", "path": "/home/somebody/secret/celeba"}
    evaluation = {"faces": "shard", "shard": "/srv/secret/val"}
    config = config_of(data=data, evaluation=evaluation)
    path = written(model_of(), tmp_path / "m.facemorph", config)
    assert b"secret" not in path.read_bytes()
    bundle = open_bundle(path)
    assert bundle.manifest.config["data"]["path"] == "celeba"  # type: ignore[index, call-overload]
    assert "non-commercial research only" in bundle.card


def test_figures_may_be_of_any_kind_of_number(tmp_path: Path) -> None:
    plain = config_of().model_dump(mode="json")
    metrics = {"psnr": np.float32(20.5), "faces": np.int64(3), "lpips": float("nan")}
    out = tmp_path / "m.facemorph"
    write_bundle(model_of(), out, config=plain, training={"rounds": 1}, metrics=metrics)
    assert open_bundle(out).manifest.metrics == {"psnr": 20.5, "faces": 3, "lpips": None}


# --- from a run ------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_run_config(config_of()))
    for number in (1, 2, 10):
        checkpoint = folder / f"checkpoints/round-{number:04d}.safetensors"
        save_file(model_of(seed=number).state_dict(), checkpoint)
    rows = [
        {"round": 0, "used": [], "server": {"psnr": 9.0}, "seconds": 1},
        {"round": 1, "used": ["1", "2"], "server": {"psnr": 11.0}, "seconds": 30},
        {"round": 2, "used": ["7"], "merged": False},
        {
            "round": 10,
            "merged": True,
            "present": 4,
            "used": ["2", "3"],
            "examples": 360,
            "training": {"loss": 0.25, "seconds": 3.0},
            "server": {"psnr": 20.5, "ssim": 0.5, "lpips": None},
            "sites": {},
            "bytes_up": 10**6,
            "seconds": 12.5,
        },
        {"round": 11, "used": ["9"], "server": {"psnr": 21.0}},
    ]
    lines = [json.dumps(row) for row in rows]
    torn = '{"round": 12, "serv'
    (folder / "metrics.jsonl").write_text("\n".join([*lines, torn]))
    return folder


def test_the_newest_checkpoint_is_the_default(run: Path) -> None:
    path = bundle_run(run)
    assert path == run / "model.facemorph"
    bundle = verify(path)
    training = {"rounds": 10, "sites": 3, "examples": 360, "seconds": 42.5}
    assert bundle.manifest.training == training
    server = {"psnr": 20.5, "ssim": 0.5}
    assert bundle.manifest.metrics == {"training": {"loss": 0.25}, "server": server}
    assert "| server.psnr | 20.5 |" in bundle.card
    head = model_of(seed=10).state_dict()["encoder.head.weight"].half().float().numpy()
    np.testing.assert_array_equal(bundle.weights()["encoder.head.weight"], head)
    assert ENCODER in unpack(path.read_bytes())


@pytest.fixture
def scores(run: Path, tmp_path: Path) -> Path:
    """As `facemorph-core evaluate --by-group --report` writes them, for the run's newest model."""
    interval = {"mean": 21.25, "low": 20.5, "high": 22.0}
    lonely = {"mean": 19.0, "low": None, "high": None}
    said = {
        "model": {"name": "x", "networks": open_bundle(bundle_run(run)).manifest.networks},
        "shard": {"path": "/home/somebody/secret", "sha256": "0" * 64},
        "split": "val",
        "images": 9,
        "psnr": interval,
        "groups": {
            "Male": {
                "yes": {"faces": 8, "people": 2, "scores": {"psnr": interval}},
                "no": {"faces": 1, "people": 1, "scores": {"psnr": lonely}},
            }
        },
    }
    (tmp_path / "scores.json").write_text(json.dumps(said))
    return tmp_path / "scores.json"


def test_scores_become_the_figures_of_the_card(run: Path, scores: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("It fails on *hats*.\n")
    bundle = verify(bundle_run(run, scores=scores, notes=notes))
    assert bundle.manifest.metrics["psnr"] == {"mean": 21.25, "low": 20.5, "high": 22.0}
    assert "| psnr | 21.2 [20.5, 22] |" in bundle.card
    assert "| Male: yes | 8 | 2 | 21.2 [20.5, 22] |" in bundle.card
    assert "| Male: no | 1 | 1 | 19 |" in bundle.card
    assert "It fails on *hats*." in bundle.card
    assert b"secret" not in bundle.path.read_bytes()


def test_scores_of_another_model_are_refused(run: Path, scores: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.facemorph"
    with pytest.raises(ModelError, match="scores are those of another model"):
        bundle_run(run, round=2, out=out, scores=scores)
    assert not out.exists()
    for text in ("{}", "[1]", "no JSON", '{"model": {"networks": "x"}, "shard": 3}'):
        scores.write_text(text)
        with pytest.raises(ModelError, match="holds no scores"):
            bundle_run(run, out=out, scores=scores)
    with pytest.raises(ModelError, match="cannot be read"):
        bundle_run(run, out=out, notes=tmp_path / "none.md")


def test_a_round_can_be_chosen(run: Path) -> None:
    path = bundle_run(run, round=2)
    assert path == run / "model-round-0002.facemorph"
    bundle = open_bundle(path)
    assert bundle.manifest.training == {"rounds": 2, "sites": 2, "seconds": 30}
    assert bundle.manifest.metrics == {}
    assert bundle_run(run, round=1, out=run / "x.facemorph") == run / "x.facemorph"


def test_a_round_that_is_not_there_lists_those_that_are(run: Path) -> None:
    with pytest.raises(ModelError, match="has no round 3; there are: 1, 2, 10"):
        bundle_run(run, round=3)


def test_a_central_run_counts_epochs(run: Path) -> None:
    for old in (run / "checkpoints").iterdir():
        old.rename(old.with_name(old.name.replace("round", "epoch")))
    line = {"epoch": 10, "images": 64, "seconds": 2.5, "training": {"loss": 0.5}, "psnr": 19.0}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert find_checkpoint(run).unit == "epoch"
    manifest = open_bundle(bundle_run(run)).manifest
    assert manifest.training == {"epochs": 10, "seconds": 2.5}
    assert manifest.metrics == {"training": {"loss": 0.5}, "psnr": 19.0}


def test_figures_that_were_never_recorded_are_simply_absent(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    manifest = open_bundle(bundle_run(run)).manifest
    assert (manifest.training, manifest.metrics) == ({"rounds": 10}, {})


def test_a_folder_without_checkpoints_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no checkpoint"):
        bundle_run(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(run: Path) -> None:
    larger = config_of().model_copy(
        update={"model": config_of().model.model_copy(update={"width": 16})}
    )
    (run / "config.yaml").write_text(dump_run_config(larger))
    with pytest.raises(ModelError, match=r"does not fit the model of its config: \d+ weights"):
        bundle_run(run)


def test_a_damaged_checkpoint_is_refused(run: Path) -> None:
    (run / "checkpoints/round-0010.safetensors").write_bytes(b"\x00" * 50)
    with pytest.raises(ModelError, match=r"round-0010\.safetensors cannot be read"):
        bundle_run(run)


def test_privacy_is_stated_with_unit_delta_and_what_was_released(run: Path) -> None:
    private = config_of(privacy={"noise_multiplier": 1.1, "delta": 1e-5, "max_epsilon": 4})
    (run / "config.yaml").write_text(dump_run_config(private))
    rows = [(1, 2.5), (2, 3.2), (10, 3.1), (11, 3.9)]  # another site speaks in each round
    lines = [json.dumps({"round": n, "training": {"epsilon": e, "delta": 1e-5}}) for n, e in rows]
    (run / "metrics.jsonl").write_text("\n".join(lines))
    bundle = open_bundle(bundle_run(run, round=10))  # chosen for what came later: all rounds count
    assert bundle.manifest.privacy == open_bundle(bundle_run(run)).manifest.privacy
    statement = bundle.manifest.privacy
    assert isinstance(statement, dict)
    assert statement["epsilon"] == 3.9
    assert statement["delta"] == 1e-5
    assert statement["unit"] == "one photo at one site"
    assert "encoder and decoder weights" in str(statement["released"])
    assert "| epsilon | 3.9 |" in bundle.card
    assert "epsilon" not in str(bundle.manifest.metrics)


def test_deltas_that_look_alike_keep_their_own_epsilon(run: Path) -> None:
    private = config_of(privacy={"noise_multiplier": 1.1, "delta": 2e-5, "max_epsilon": 4})
    (run / "config.yaml").write_text(dump_run_config(private))
    pairs = {1e-5: 3.0, 1.0000001e-5: 2.0}
    for node, (delta, epsilon) in enumerate(pairs.items()):
        note(run, 1, "training", node=node, site=str(node), event=Spent(epsilon, delta))
    statement = open_bundle(bundle_run(run)).manifest.privacy
    assert {float(delta): e for delta, e in statement["epsilon_at"].items()} == pairs
