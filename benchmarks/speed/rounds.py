"""What federation costs beside the training itself, and how a server bears many sites.

A round of simulated sites, one for each core, is compared with one pass over the same photos by
the same model in one process with all cores. The start (Flower, Ray, the first import of torch in
each worker) is told apart: it is paid once a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.speed.learners import CONFIG
from benchmarks.speed.memory import peaks, program_of
from facemorph_core.config import load_run_config
from facemorph_core.disk.records import read_metrics
from facemorph_core.learning.models import build_model
from facemorph_core.learning.training.local import LocalRound, train_epochs
from facemorph_core.machine.cores import available_cores
from facemorph_core.machine.processes import worker_pool
from facemorph_core.shards.shard import Shard, write_view
from simulations.run import simulate

__all__ = ["Crowd", "RoundCost", "crowds", "round_cost"]

PHOTOS, ROUNDS = 1024, 3
SITES, SAMPLED = 1000, (10, 50, 200)
FEW_SCORED = 8
SERVER = "flwr-simulation"
"""The process that the ServerApp runs in, and with it all replies that have arrived."""


@dataclass(frozen=True, slots=True)
class RoundCost:
    """The same images, in rounds and in one place."""

    sites: int
    images: int
    """Of a round."""
    round_seconds: float
    """Median of the rounds after the first, from the request to the merged weights."""
    first_round_seconds: float
    start_seconds: float
    """Everything outside the rounds: Flower, Ray, scores, the bundle."""
    central_seconds: float

    @property
    def ratio(self) -> float:
        """Of a round to central training."""
        return self.round_seconds / self.central_seconds


@dataclass(frozen=True, slots=True)
class Crowd:
    """One round with so many of SITES sites."""

    sites: int
    sampled: int
    seconds: float
    server_mib: float
    """Most memory of the process that merges."""
    held_mib: float
    """What the updates of the round would take if they were all held."""


def round_cost(faces: Shard, *, out: Path, seed: int = 0) -> RoundCost:
    """Some rounds of as many sites as there are cores, and one pass in one place."""
    sites = available_cores()
    view = _view(faces, out / "round-faces", photos=PHOTOS, seed=seed)
    settings = _settings(view, sites=sites, rounds=ROUNDS, seed=seed)
    began = perf_counter()
    run = simulate(CONFIG, [*settings, "name=rounds", "resume=never"], root=out)
    whole = perf_counter() - began
    rounds = [entry for entry in read_metrics(run) if entry["round"] > 0]
    seconds = [entry["seconds"] for entry in rounds]
    with worker_pool(1) as pool:
        central = pool.submit(_central, str(view.path), settings, sites).result()
    return RoundCost(
        sites,
        int(rounds[-1]["examples"]),
        round_seconds=float(np.median(seconds[1:])),
        first_round_seconds=seconds[0],
        start_seconds=whole - sum(seconds),
        central_seconds=central,
    )


def crowds(
    faces: Shard, *, out: Path, sites: int = SITES, sampled: Sequence[int] = SAMPLED, seed: int = 0
) -> list[Crowd]:
    """One round each with more and more of the same sites; the shipped model, all in one run."""
    found = []
    for count in sampled:
        settings = [
            *_settings(faces, sites=sites, rounds=1, seed=seed),
            f"federation.fraction={count / sites}",
        ]
        with peaks(program_of) as highest:
            run = simulate(CONFIG, [*settings, "name=crowd", "resume=never"], root=out)
        entry = read_metrics(run)[-1]
        found.append(
            Crowd(sites, count, entry["seconds"], highest[SERVER], entry["bytes_up"] / 2**20)
        )
    return found


def _settings(faces: Shard, *, sites: int, rounds: int, seed: int) -> list[str]:
    return [
        *(f"seed={seed}", "data.source=shard", f"data.path={faces.path}", "training.threads=1"),
        *(f"federation.sites={sites}", f"federation.rounds={rounds}", "federation.quorum=1"),
        *("federation.evaluate_every=0", f"evaluation.every={rounds}", "evaluation.samples=0"),
        *(f"evaluation.max_faces={FEW_SCORED}", "data.partition.kind=by_person"),
        "data.site_val=0",
    ]


def _central(path: str, settings: list[str], threads: int) -> float:
    """Seconds of one pass, after one that warms up."""
    config = load_run_config(CONFIG, [*settings, f"training.threads={threads}"])
    shard, model = Shard.open(Path(path)), build_model(config.model, seed=config.seed)
    took = [
        train_epochs(model, shard, LocalRound(config, epochs=1, seed=number)).metrics["seconds"]
        for number in range(2)
    ]
    return took[-1]


def _view(faces: Shard, folder: Path, *, photos: int, seed: int) -> Shard:
    """Some photos of it to train on, and a few to score."""
    if folder.is_dir():
        return Shard.open(folder)
    rng = np.random.default_rng(seed)
    train = rng.permutation(faces.rows("train"))[:photos]
    rows = np.sort(np.concatenate([train, faces.rows("val")[:FEW_SCORED]]))
    return write_view(faces, rows, folder)
