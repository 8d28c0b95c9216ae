"""The folder of a benchmark, safe against a kill at any moment.

    | bench.json            what it was made with, and in the end every figure
    | table.md, grid.png    the figures, and the same ten people through every method
    | rows/NAME/            scores.npz (a column per score, a face per place), faces.png (the ten),
    |                       facts.json, and what a training goes on from
    | reference.npz         what VGG16 sees in the photos that are scored
    | floor.json            how far these photos are from each other
    | faces/                which faces are fitted on and scored, where that is not the shard's own

A row is there once its ``facts.json`` is, and is not computed again.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.judge import Scores
from benchmarks.method import Facts
from benchmarks.sets import Distance
from facemorph_core.config.schema import TrainingConfig
from facemorph_core.disk.output import output_error, written_whole
from facemorph_core.disk.records import write_atomic
from facemorph_core.disk.run_folder import is_taken
from facemorph_core.errors import OutputError
from facemorph_core.evaluation.reconstructions import Columns
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.machine.cores import available_cores

__all__ = [
    "FORMAT_VERSION",
    "Row",
    "machine",
    "read_floor",
    "read_row",
    "same_setup",
    "write_bench",
    "write_floor",
    "write_row",
]

FORMAT_VERSION = 3
"""Of a benchmark's folder; since 2, distances keep their resamples."""
BENCH, FLOOR = "bench.json", "floor.json"
FACTS, SCORES, FACES = "facts.json", "scores.npz", "faces.png"

Setup = Mapping[str, Any]
"""What decides a benchmark's figures, as plain values."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One method, judged."""

    name: str
    """As it is asked for, such as "pca-128"; its folder."""
    label: str
    """As the table shows it."""
    facts: Facts
    scores: Scores
    shown: NDArray[np.uint8]
    """(n, S, S, 3) what it made of the faces of the grid."""


def machine() -> dict[str, Any]:
    """What a wall clock depends on; the precision is that of rows that ask for none."""
    return {
        "cpu": _cpu(),
        "cores": available_cores(),
        "torch": str(torch.__version__),
        "precision": str(choose_compute(TrainingConfig())),
    }


def same_setup(out: Path, setup: Setup) -> None:
    """Record what ``out`` is made with, or refuse to mix it with something else.

    Raises:
        OutputError: it was made with another setup, or holds something else.
    """
    file = out / BENCH
    if not file.exists():
        if is_taken(out):
            raise OutputError(f"{out} holds something else", hint="choose another --name")
        write_bench(out, {"setup": setup})
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))["setup"]
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(f"{file} is damaged", hint="choose another --name") from None
    now = json.loads(json.dumps(setup))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differing:
        told = "; ".join(f"{name} {before.get(name)}, now {now.get(name)}" for name in differing)
        raise OutputError(
            f"{out} holds a benchmark of another setup, whose rows do not compare: {told}",
            hint="choose another --name, or remove the folder",
        )


def write_bench(out: Path, content: Mapping[str, Any]) -> None:
    """Replace bench.json."""
    write_atomic(out / BENCH, (json.dumps(content, indent=1) + "\n").encode())


def write_floor(out: Path, floor: Mapping[str, Distance]) -> None:
    """Keep how far photos are from photos."""
    values = {name: asdict(distance) for name, distance in floor.items()}
    write_atomic(out / FLOOR, json.dumps(values, indent=1).encode())


def read_floor(out: Path) -> dict[str, Distance] | None:
    """What `write_floor` kept; None if it did not."""
    file = out / FLOOR
    if not file.exists():
        return None
    return _distances(json.loads(file.read_text(encoding="utf-8")))


# --- rows ------------------------------------------------------------------------------------


def write_row(folder: Path, row: Row, *, recipe: str) -> None:
    """Keep a row; ``recipe`` is whatever it was made by, such as a config's digest."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error
    with written_whole(folder / SCORES, force=True) as temporary:
        np.savez_compressed(temporary, **row.scores.columns)  # type: ignore[arg-type]
    with written_whole(folder / FACES, force=True) as temporary:
        Image.fromarray(np.concatenate(list(row.shown), axis=1)).save(temporary)
    facts = {
        "name": row.name,
        "label": row.label,
        "recipe": recipe,
        "facts": asdict(row.facts),
        "distances": {name: asdict(value) for name, value in row.scores.distances.items()},
    }
    write_atomic(folder / FACTS, (json.dumps(facts, indent=1) + "\n").encode())


def read_row(folder: Path, *, recipe: str) -> Row | None:
    """The row in ``folder``; None if it is not finished.

    Raises:
        OutputError: it was made by another recipe, or is damaged.
    """
    if not (folder / FACTS).exists():
        return None
    remedy = f"remove {folder} to have it made again"
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        row = Row(
            facts["name"],
            facts["label"],
            Facts(**facts["facts"]),
            Scores(_columns(folder / SCORES), _distances(facts["distances"])),
            _shown(folder / FACES),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{folder} is damaged: {error}", hint=remedy) from error
    if facts["recipe"] != recipe:
        raise OutputError(f"{folder} was made with another config", hint=remedy)
    return row


def _columns(path: Path) -> Columns:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _distances(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Distance]:
    return {
        name: Distance(said["value"], tuple(said["resampled"])) for name, said in values.items()
    }


def _shown(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        strip = np.asarray(picture.convert("RGB"))
    return np.stack(np.split(strip, strip.shape[1] // strip.shape[0], axis=1))


def _cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
