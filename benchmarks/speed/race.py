"""How long until the textbook VAE's quality is reached, by the clock.

The textbook VAE trains for as long as IMAGES images take it. Then ours trains from nothing for a
quarter of that time, an eighth and a sixteenth, each a whole training with its own schedule, and
all are scored on the same people, whom none of them saw.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.method import Method
from benchmarks.speed.learners import Entrant, entrants
from benchmarks.speed.pace import Pace
from facemorph_core.disk.records import write_atomic
from facemorph_core.metrics.bootstrap import Interval, interval_of_difference, interval_of_mean
from facemorph_core.metrics.psnr import psnr
from facemorph_core.shards.rows import spread
from facemorph_core.shards.shard import Shard

__all__ = ["IMAGES", "SHARES", "Finish", "race"]

IMAGES = 64_000
SHARES = (1 / 4, 1 / 8, 1 / 16)
SCORED = 400
BATCH = 64


@dataclass(frozen=True, slots=True)
class Finish:
    """What a training of so many seconds came to."""

    name: str
    seconds: float
    images: int
    psnr: Interval
    ahead: Interval | None
    """PSNR above the textbook VAE's, dB; None for itself."""


def race(
    faces: Shard,
    paces: list[Pace],
    *,
    out: Path,
    images: int = IMAGES,
    seed: int = 0,
    watch: Callable[[str], None] = lambda _: None,
) -> list[Finish]:
    """The textbook VAE first, then ours, longest first. What ``out`` holds is not done again."""
    book, *_, ours = entrants(seed=seed)
    whole = _seconds(out, images / paces[0].images_per_second)
    rows = spread(faces.rows("val"), SCORED)
    people = [faces.people[row] for row in rows.tolist()]
    finishes: list[Finish] = []
    first: np.ndarray | None = None
    for entrant, share in [(book, 1.0), *((ours, share) for share in SHARES)]:
        watch(f"{entrant.name}: {share * whole:.0f} s of training")
        method = entrant.complete(faces, share * whole, out / _folder(entrant, share))
        scores = _scores(method, faces, rows)
        ahead = None if first is None else interval_of_difference(scores, first, people)
        first = scores if first is None else first
        finishes.append(
            Finish(
                entrant.name,
                method.facts.seconds,
                method.facts.images_seen,
                interval_of_mean(scores, people),
                ahead,
            )
        )
    return finishes


def _seconds(out: Path, wanted: float) -> float:
    """Of the textbook VAE's training; a race that goes on keeps to what it began with."""
    file = out / "seconds.json"
    if file.exists():
        return float(json.loads(file.read_text(encoding="utf-8")))
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps(wanted).encode())
    return wanted


def _folder(entrant: Entrant, share: float) -> str:
    return f"{entrant.config.name}-{round(1 / share)}"


def _scores(method: Method, faces: Shard, rows: np.ndarray) -> np.ndarray:
    parts = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        pixels = faces.images(batch)
        parts.append(psnr(pixels, method.decode(method.encode(pixels, faces.landmarks(batch)))))
    return np.concatenate(parts)
