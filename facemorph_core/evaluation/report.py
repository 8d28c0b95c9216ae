"""What an evaluation says: as JSON, as a table of faces, as a picture."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.disk.output import check_writable, output_error, written_whole
from facemorph_core.evaluation.groups import groups_json, groups_of
from facemorph_core.evaluation.reconstructions import Columns, intervals
from facemorph_core.metrics.bootstrap import LEVEL, RESAMPLES, Interval, intervals_json
from facemorph_core.shards.rows import spread

if TYPE_CHECKING:
    from facemorph_core.bundle.read import Bundle
    from facemorph_core.shards.shard import Shard

__all__ = ["INTERVAL", "Evaluation", "check_report", "to_json", "write_csv", "write_report"]

INTERVAL = f"{LEVEL:.0%} percentile bootstrap over people, {RESAMPLES} resamples, seed 0"
SCORES, PER_IMAGE, PICTURE = "scores.json", "per-image.csv", "faces.png"
SHOWN = 21  # faces in the picture


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on some faces of one shard."""

    bundle: Bundle
    shard: Shard
    split: str
    rows: NDArray[np.int64]
    columns: Columns
    unavailable: Mapping[str, str]
    fit: int = 0
    """Steps that fitted each code to its face."""
    by_group: bool = False
    """Whether the scores are also wanted by attribute and brightness."""

    @property
    def people(self) -> list[str]:
        """Whose face each row shows."""
        return [self.shard.people[row] for row in self.rows]

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Each score over all faces."""
        return intervals(self.columns, self.people)

    @cached_property
    def groups(self) -> dict[str, Any]:
        """Each score by attribute and brightness, as JSON."""
        return groups_json(self.columns, groups_of(self.shard, self.rows), self.people)


def to_json(done: Evaluation) -> dict[str, Any]:
    """The scores nested by metric, with what they were measured on; what is no number is null."""
    answer: dict[str, Any] = {
        "model": {
            "name": done.bundle.manifest.name,
            "sha256": done.bundle.digest,
            "networks": done.bundle.manifest.networks,
        },
        "shard": {"path": str(done.shard.path), "sha256": done.shard.digest()},
        "split": done.split,
        "fit": done.fit,
        "images": len(done.rows),
        "people": len(set(done.people)),
        "interval": INTERVAL,
    }
    for name, interval in intervals_json(done.intervals).items():
        metric, _, part = name.partition(".")
        place = answer.setdefault(metric, {}) if part else answer
        place[part or metric] = interval
    if done.by_group:
        answer["groups"] = done.groups
    return answer | {"unavailable": dict(done.unavailable)}


def check_report(folder: Path, *, force: bool) -> None:
    """Refuse now what `write_report` would refuse after the work."""
    if folder.exists():
        for name in (SCORES, PER_IMAGE, PICTURE):
            check_writable(folder / name, force=force)


def write_csv(done: Evaluation, path: Path, *, force: bool) -> None:
    """One line per face: its row in the shard, the person, the scores."""
    with (
        written_whole(path, force=force) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "person", *done.columns])
        for row, person, *scores in zip(
            done.rows, done.people, *done.columns.values(), strict=True
        ):
            cells = ["" if math.isnan(value) else f"{value:.6g}" for value in scores]
            writer.writerow([row, person, *cells])


def write_report(done: Evaluation, folder: Path, *, force: bool) -> None:
    """scores.json, per-image.csv, and faces.png: originals above reconstructions, best first."""
    from facemorph_core.pictures.sheet import draw_sheet

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error
    with written_whole(folder / SCORES, force=force) as temporary:
        temporary.write_text(json.dumps(to_json(done), indent=1) + "\n", encoding="utf-8")
    write_csv(done, folder / PER_IMAGE, force=force)
    rows, labels = _for_the_picture(done)
    originals = done.shard.images(rows)
    made = done.bundle.decode(
        done.bundle.encode(originals, done.shard.landmarks(rows), fit=done.fit)
    )
    sheet = draw_sheet(np.concatenate([originals, made], axis=1), labels=labels)
    with written_whole(folder / PICTURE, force=force, private=True) as temporary:
        sheet.save(temporary)


def _for_the_picture(done: Evaluation) -> tuple[NDArray[np.int64], list[str]]:
    """Faces from the best to the worst by the first metric, evenly over all ranks."""
    if not done.columns:
        rows = spread(done.rows, SHOWN)
        return rows, [""] * len(rows)
    name, column = next(iter(done.columns.items()))
    order = np.argsort(column if name == "lpips" else -column)
    shown = spread(order.astype(np.int64), SHOWN)
    unit = " dB" if name == "psnr" else f" {name}"
    return done.rows[shown], [f"{column[index]:#.3g}{unit}" for index in shown]
