"""The speed benchmark, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.faces import faces_for
from benchmarks.speed.learners import our_config
from benchmarks.speed.pace import paces, roof
from benchmarks.speed.preparing import COUNTS, preparation
from benchmarks.speed.race import IMAGES, race
from benchmarks.speed.report import SpeedReport
from benchmarks.speed.rounds import SAMPLED, crowds, round_cost
from facemorph_core.config.schema import DataConfig
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.machine.describe import describe
from facemorph_core.shards.cache import shard_for

QUICK_IMAGES, QUICK_COUNTS, QUICK_SAMPLED = 2_000, (200,), (10,)
TURNS, QUICK_TURNS = 12, 4


def run_speed(
    data: Path, out: Path, *, parts: Sequence[str], seed: int = 0, quick: bool = False
) -> SpeedReport:
    """Measure what ``parts`` name; a race that was interrupted goes on."""
    console = Console(stderr=True)
    compute = choose_compute(our_config(seed=seed).training)
    report = SpeedReport(describe(), str(compute))
    if set(parts) - {"prepare"}:
        whole = shard_for(DataConfig(source="celeba", path=str(data)), seed=seed)
        faces = faces_for(whole, "tune", quick=False, seed=seed, folder=out / "faces")
    if "training" in parts or "race" in parts:
        console.print("training: steps in turns")
        report.roof = roof(compute)
        report.paces = paces(faces, turns=QUICK_TURNS if quick else TURNS, seed=seed)
    if "race" in parts:
        images = QUICK_IMAGES if quick else IMAGES
        where = out / f"race-{images}"
        report.finishes = race(
            faces, report.paces, out=where, images=images, seed=seed, watch=console.print
        )
    if "prepare" in parts:
        console.print("prepare")
        report.prepared = preparation(data, QUICK_COUNTS if quick else COUNTS)
    if "round" in parts:
        console.print("rounds beside central training")
        report.round = round_cost(faces, out=out, seed=seed)
    if "crowd" in parts:
        console.print("a crowd of sites")
        sampled = QUICK_SAMPLED if quick else SAMPLED
        report.crowds = crowds(faces, out=out, sampled=sampled, seed=seed)
    return report
