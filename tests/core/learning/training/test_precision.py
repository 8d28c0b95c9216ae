"""Which numbers are multiplied: what the precision that was chosen makes of a training step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.schema import RunConfig, TrainingConfig
from facemorph_core.learning.models import build_model
from facemorph_core.learning.training.compute import Compute, choose_compute
from facemorph_core.learning.training.evaluate import evaluate_shard
from facemorph_core.learning.training.local import LocalRound, train_epochs

KINDS = ["ae", "vae", "vaegan"]
CONVOLUTIONS = {"convolution", "convolution_backward"}
SMALL_PRODUCTS = {"bmm", "baddbmm"}
"""Nothing but Muon multiplies several matrices at once."""


class Watched(TorchDispatchMode):
    """The types of the tensors that each operation read or made, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: defaultdict[str, set[torch.dtype]] = defaultdict(set)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        kinds = {x.dtype for x in tree_leaves((args, kwargs, made)) if isinstance(x, torch.Tensor)}
        self.seen[func.overloadpacket.__name__] |= kinds | _wanted(kwargs)
        return made

    def of(self, names: set[str]) -> set[torch.dtype]:
        assert names & self.seen.keys(), f"none of {names} was computed"
        return set().union(*(self.seen[name] for name in names))


def _wanted(kwargs: dict[str, object] | None) -> set[torch.dtype]:
    """What an operation was asked to convert to."""
    return {value for value in (kwargs or {}).values() if isinstance(value, torch.dtype)}


@contextmanager
def processor(monkeypatch: pytest.MonkeyPatch, *features: str) -> Iterator[None]:
    """A CPU of these features and no GPU, as torch tells of it."""
    found = dict.fromkeys(features, True)
    with monkeypatch.context() as patch:
        patch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        patch.delenv("DNNL_MAX_CPU_ISA", raising=False)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
        yield


@dataclass
class Faces:
    """Noise in memory: as much of a shard as training reads."""

    count: int = 4
    size: int = 32

    def rows(self, split: str) -> np.ndarray:
        return np.arange(self.count)

    def images(self, rows: np.ndarray) -> np.ndarray:
        shape = (self.count, self.size, self.size, 3)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)[rows]

    def landmarks(self, rows: np.ndarray) -> np.ndarray:
        return np.tile(mean_shape(self.size).astype(np.float32), (len(rows), 1, 1))


def run_config(precision: str, kind: str = "vae", optimiser: str = "muon") -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "test",
            "model": {"kind": kind, "image_size": 32, "width": 16, "latent_dim": 8},
            "loss": {"adversarial": 0.01 if kind == "vaegan" else 0.0},
            "training": {
                "device": "cpu",
                "batch_size": 4,
                "precision": precision,
                "optimiser": optimiser,
            },
        }
    )


def trained(config: RunConfig) -> Watched:
    """What was computed in two steps of a local round."""
    with Watched() as watched:
        train_epochs(build_model(config.model), Faces(), LocalRound(config, epochs=2))
    return watched


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_nothing_sees_a_bfloat16(kind, optimiser):
    watched = trained(run_config("float32", kind, optimiser))
    rough = [name for name, kinds in watched.seen.items() if torch.bfloat16 in kinds]
    assert not rough
    assert watched.of(CONVOLUTIONS) == {torch.float32}


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_products_are_bfloat16_and_weights_are_not(kind):
    watched = trained(run_config("bfloat16", kind))
    assert watched.of(CONVOLUTIONS) == {torch.bfloat16}
    assert watched.of(SMALL_PRODUCTS) == {torch.bfloat16}
    assert watched.of({"_fused_adamw_"}) == {torch.float32}


def test_auto_is_float32_where_bfloat16_would_be_emulated(monkeypatch):
    for features, expected in (
        (["avx2"], torch.float32),
        (["avx2", "avx512_f", "avx512_vnni"], torch.float32),
        (["avx2", "avx512_f", "avx512_bf16"], torch.bfloat16),
    ):
        with processor(monkeypatch, *features):
            watched = trained(run_config("auto"))
        assert watched.of(CONVOLUTIONS | SMALL_PRODUCTS) == {expected}, features


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_auto_knows_when_the_library_is_held_to_an_older_processor(variable, monkeypatch):
    """So that any machine can show how one without bfloat16 does."""
    with processor(monkeypatch, "avx2", "avx512_bf16"):
        for limit, expected in (("avx2", False), ("AVX512_CORE", False), ("ALL", True)):
            monkeypatch.setenv(variable, limit)
            assert choose_compute(TrainingConfig()).bfloat16 is expected, limit


def test_figures_can_say_what_they_were_computed_in():
    cpu = torch.device("cpu")
    kernels = torch.backends.cpu.get_cpu_capability()
    assert str(Compute(cpu, True)) == f"bfloat16 ({kernels})"
    assert str(Compute(cpu, False)) == f"float32 ({kernels})"
    assert str(Compute(torch.device("cuda"), False)) == "float32 (cuda)"


def test_scores_are_float32_whatever_trains(monkeypatch):
    config = run_config("auto")
    with processor(monkeypatch, "avx512_bf16"), Watched() as watched:
        evaluate_shard(build_model(config.model), Faces(), "val", config)
    assert watched.of({"convolution"}) == {torch.float32}
