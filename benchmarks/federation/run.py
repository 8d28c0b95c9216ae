"""Trains every row with every seed and scores it; what is there already is not done again.

| faces/                    the photos: people to deal out, and others to score
| central-seed0/, base-seed0/, ...    run directories
| rows/NAME-seedN.json      what a finished row came to, also from another machine
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.faces import faces_for, whole_people
from benchmarks.federation.rows import (
    CONFIG,
    Setting,
    config_of,
    overrides_of,
)
from benchmarks.floors import fit_pca
from facemorph_core.config import RunConfig, digest
from facemorph_core.config.schema import DataConfig
from facemorph_core.disk.records import read_metrics, write_atomic
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.learning.federated import load_shared_weights
from facemorph_core.learning.models import Autoencoder, build_model
from facemorph_core.learning.release.from_run import find_checkpoint
from facemorph_core.learning.training.central import train_centrally
from facemorph_core.learning.training.central_run import CentralRun
from facemorph_core.learning.training.checkpoint import load_tensors
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.learning.training.reconstruct import decode, encode
from facemorph_core.metrics.psnr import psnr
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.shard import Shard, write_view
from simulations.run import simulate

__all__ = ["PCA", "Plan", "Result", "run_federation"]

PCA = "pca-128"
BATCH = 64

Watch = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is trained."""

    photos: int
    """That are dealt out to the sites, whole people."""
    rounds: int
    """Of the base; as many epochs in one place."""
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """One row with one seed."""

    name: str
    seed: int
    recipe: str
    """Digest of the config and the faces."""
    psnr: list[float]
    """dB of each scored face."""
    people: list[str]
    """Whose face each is."""
    curve: list[tuple[int, int, float]]
    """After each round: images seen, bytes that left the sites, PSNR of some of the faces."""
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    """Of training, all rounds."""
    precision: str = ""
    """What it was trained in; empty for PCA."""


def run_federation(
    data: Path,
    out: Path,
    plan: Plan,
    chosen: Sequence[Setting],
    *,
    watch: Watch = lambda _: None,
) -> list[Result]:
    """Every row of ``chosen`` with every seed of the plan, and PCA-128 on the same photos."""
    faces = _faces(data, out / f"faces-{plan.photos}", plan.photos)
    results = [_kept(out, PCA, 0, faces.digest(), lambda: _pca(faces), faces)]
    for seed in plan.seeds:
        for setting in chosen:
            config = config_of(setting, faces.path, seed=seed, rounds=plan.rounds)
            recipe = digest(config.model_copy(update={"data": _without_place(config)}))

            def made(setting: Setting = setting, config: RunConfig = config) -> dict[str, Any]:
                watch(f"{config.name}: {config.federation.rounds} rounds")
                if setting.central:
                    return _central(config, faces, out, epochs=plan.rounds)
                return _federated(setting, config, faces, out, plan.rounds)

            recipe = f"{recipe} {faces.digest()}"
            results.append(_kept(out, setting.name, seed, recipe, made, faces))
    return results


def _kept(
    out: Path,
    name: str,
    seed: int,
    recipe: str,
    make: Callable[[], dict[str, Any]],
    faces: Shard,
) -> Result:
    """The row from its file if that was made in the same way, else made now."""
    file = out / "rows" / f"{name}-seed{seed}.json"
    if file.exists():
        found = Result(**json.loads(file.read_text(encoding="utf-8")))
        if found.recipe == recipe:
            return found
    people = [faces.people[row] for row in faces.rows("val").tolist()]
    result = Result(name=name, seed=seed, recipe=recipe, people=people, **make())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps(asdict(result)).encode())
    return result


def _faces(data: Path, folder: Path, photos: int) -> Shard:
    """Some people of the train part to train on, and the 200 others of the `tune` split."""
    if folder.is_dir():
        return Shard.open(folder)
    whole = shard_for(DataConfig(source="celeba", path=str(data)), seed=0)
    tune = faces_for(whole, "tune", quick=False, seed=0, folder=folder.parent / "tune")
    train = whole_people(tune, tune.rows("train"), photos, seed=0)
    return write_view(tune, np.sort(np.concatenate([train, tune.rows("val")])), folder)


def _federated(
    setting: Setting, config: RunConfig, faces: Shard, out: Path, rounds: int
) -> dict[str, Any]:
    changes = overrides_of(setting, faces.path, seed=config.seed, rounds=rounds)
    run = simulate(CONFIG, changes, root=out)
    model = build_model(config.model)
    newest = find_checkpoint(run)
    load_shared_weights(model, load_tensors(newest.path))
    images = up = down = 0
    seconds, curve = 0.0, []
    for entry in read_metrics(run)[1:]:
        images += entry["examples"] * config.federation.local_epochs
        up, down = up + entry["bytes_up"], down + entry["bytes_down"]
        seconds += entry["seconds"]
        curve.append((images, up, entry["server"]["psnr"]))
    scores = _scores(model, config, faces)
    return {
        "psnr": scores,
        "curve": curve,
        "bytes_up": up,
        "bytes_down": down,
        "seconds": seconds,
        "precision": str(choose_compute(config.training)),
    }


def _central(config: RunConfig, faces: Shard, out: Path, *, epochs: int) -> dict[str, Any]:
    training = config.training.model_copy(update={"epochs": epochs, "threads": 0})
    config = config.model_copy(update={"training": training})
    path = out / config.name
    with CentralRun.held(path, config) as run:
        model = train_centrally(config, faces, run)
    entries = read_metrics(path)
    images = np.cumsum([entry["images"] for entry in entries]).tolist()
    curve = [(n, 0, entry["psnr"]) for n, entry in zip(images, entries, strict=True)]
    seconds = sum(entry["seconds"] for entry in entries)
    return {
        "psnr": _scores(model, config, faces),
        "curve": curve,
        "seconds": seconds,
        "precision": str(choose_compute(config.training)),
    }


def _pca(faces: Shard) -> dict[str, Any]:
    pca = fit_pca(faces, faces.rows("train"), 128)
    rows = faces.rows("val")
    found = [
        psnr(pixels, pca.decode(pca.encode(pixels, landmarks)))
        for pixels, landmarks in _batches(faces, rows)
    ]
    return {"psnr": np.concatenate(found).tolist(), "curve": []}


@torch.no_grad()
def _scores(model: Autoencoder, config: RunConfig, faces: Shard) -> list[float]:
    """PSNR of each face that is scored, dB."""
    geometry = geometry_of(config.model.geometry, config.model.image_size)
    found = [
        psnr(pixels, decode(model, geometry, encode(model, geometry, pixels, landmarks)))
        for pixels, landmarks in _batches(faces, faces.rows("val"))
    ]
    return np.concatenate(found).tolist()


def _batches(
    faces: Shard, rows: NDArray[np.int64]
) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    starts = range(0, len(rows), BATCH)
    return [
        (faces.images(rows[s : s + BATCH]), faces.landmarks(rows[s : s + BATCH])) for s in starts
    ]


def _without_place(config: RunConfig) -> DataConfig:
    """The data section without the folder that the faces happen to lie in."""
    return config.data.model_copy(update={"path": "faces"})
