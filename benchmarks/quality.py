"""The quality benchmark: every row of the ladder made, judged and written, or taken as it is.

What is finished stays: a run that was killed goes on with its next row, and a training within a
row goes on from its last checkpoint.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.progress import TaskID

from benchmarks.claims import Curve
from benchmarks.faces import Split, faces_for
from benchmarks.floors import PCA, fit_pca, truncated
from benchmarks.judge import Judges, Watch, judge, person_judge, picture_judges
from benchmarks.ladder import Job, Rung
from benchmarks.method import Method
from benchmarks.sets import (
    Couples,
    Distance,
    Features,
    Look,
    SetJudge,
    couples_of,
    distances_between,
    features_of,
)
from benchmarks.store import (
    FORMAT_VERSION,
    Row,
    machine,
    read_floor,
    read_row,
    same_setup,
    write_bench,
    write_floor,
    write_row,
)
from benchmarks.table import Report, draw_grid, to_json, to_markdown
from benchmarks.tight import TightFaces
from facemorph_core.config.schema import DataConfig, TrainingConfig
from facemorph_core.disk.output import written_whole
from facemorph_core.disk.records import write_atomic
from facemorph_core.disk.run_folder import held_alone
from facemorph_core.evaluation.groups import groups_of
from facemorph_core.evaluation.reconstructions import FaceSet
from facemorph_core.learning.nets.vgg_features import load_features, vgg_features
from facemorph_core.learning.training.batches import Faces
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.machine.progress import progress_bars
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.shard import Shard

__all__ = ["Bench", "Options", "judged", "run_quality", "setup_of", "write_report"]

log = logging.getLogger(__name__)

SHOWN = 10  # people in the grid
TURN = 60.0  # seconds on the clock
CURVE_NUMBERS = (64, 128, 256, 512, 1024, 2048)
TABLE, GRID, REFERENCE = "table.md", "grid.png", "reference.npz"

WatchOf = Callable[[str], Watch]
"""The watch of whatever has this label."""


class BenchFaces(Faces, FaceSet, Protocol):
    """A shard, or what stands for one."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    data: Path
    out: Path
    rungs: Sequence[Rung]
    split: Split = "tune"
    minutes: float = 20.0
    seed: int = 0
    quick: bool = False
    curve: bool = False


@dataclass(frozen=True)
class Bench:
    """Some faces, who judges them, and the folder of their rows."""

    out: Path
    faces: BenchFaces
    budget: float
    """Seconds of training a row."""
    seed: int
    watch_of: WatchOf
    pictures_only: bool = False
    """Whether persons and sets are left unjudged."""

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The faces that are scored."""
        return self.faces.rows("val")

    @cached_property
    def people(self) -> list[str]:
        """Whose face each of ``rows`` shows."""
        people = self.faces.people
        return [people[row] for row in self.rows]

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """The first photo of ten people, the same ones for a seed."""
        people = np.array(self.people)
        names = np.random.default_rng([self.seed, 4]).permutation(np.unique(people))[:SHOWN]
        return self.rows[[int(np.flatnonzero(people == name)[0]) for name in names]]

    @cached_property
    def couples(self) -> Couples | None:
        """Who is morphed with whom; None where sets are not judged."""
        if self.pictures_only:
            return None
        couples = couples_of(self.people, seed=self.seed)
        if not couples.suffice:
            log.warning("%d people are too few for FD and KD", len(set(self.people)))
        return couples if couples.suffice else None

    def row(self, rung: Rung) -> Row | None:
        """As it is in the folder; None where it has still to be made."""
        return read_row(self.job(rung).folder, recipe=rung.recipe)

    def job(self, rung: Rung) -> Job:
        """What its row is made with."""
        folder = self.out / "rows" / rung.name
        return Job(self.faces, self.budget, folder, self.watch_of(rung.label))

    @cached_property
    def judges(self) -> Judges:
        """Loads the judges' networks; the photos are looked at once for all rows."""
        if self.pictures_only:
            return Judges(picture_judges())
        faces = [*picture_judges(), person_judge(self.faces, self.rows)]
        if self.couples is None:
            return Judges(faces)
        return Judges(faces, SetJudge(self.couples, self.reference, self.look, self.seed))

    @cached_property
    def look(self) -> Look:
        """VGG16, in bfloat16 where the machine has it: FD moves by less than a thousandth."""
        network, compute = load_features(), choose_compute(TrainingConfig(device="cpu"))

        def look(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
            with compute.autocast():
                return vgg_features(network, pictures)

        return look

    @cached_property
    def reference(self) -> Features:
        """Features of the photos of `couples`; those of all ``rows`` are kept on disk."""
        assert self.couples is not None
        file = self.out / REFERENCE
        if not file.exists():
            watch = self.watch_of("photos")
            features = features_of(
                lambda part: self.faces.images(self.rows[part]),
                len(self.rows),
                self.look,
                progress=lambda done, total: watch("looking", done, total),
            )
            with written_whole(file) as temporary:
                np.savez(temporary, features=features)
        with np.load(file, allow_pickle=False) as archive:
            return np.asarray(archive["features"])[self.couples.places]

    def floor(self) -> dict[str, Distance]:
        """How far photos of people are from photos of other people; kept on disk."""
        if self.couples is None:
            return {}
        found = read_floor(self.out)
        if found is None:
            real = self.reference
            found = distances_between(real, real, self.couples, seed=self.seed)
            write_floor(self.out, found)
        return found


def run_quality(options: Options) -> Report:
    """Make what is missing, judge it, write table.md, bench.json and grid.png.

    Raises:
        OutputError: the folder holds a benchmark of other data, split, budget, seed or machine.
        WeightsUnavailable: a judge's weights are not here.
    """
    out = options.out
    hint = "wait for it, or choose another --name"
    with held_alone(out, other="benchmark", hint=hint), _progress() as watch_of:
        shard = _shard(options, watch_of("faces"))
        setup = setup_of(options, shard)
        same_setup(out, setup)
        faces = faces_for(
            shard, options.split, quick=options.quick, seed=options.seed, folder=out / "faces"
        )
        bench = Bench(out, faces, 60 * options.minutes, options.seed, watch_of)
        if any(bench.row(rung) is None for rung in options.rungs):
            _ = bench.judges  # a judge that is missing is missed before the work
        learn_in_turns(options.rungs, bench)
        rows = [judged(rung, bench) for rung in options.rungs]
        report = Report(
            setup=setup,
            rows=rows,
            people=bench.people,
            train=len(faces.rows("train")),
            groups=groups_of(faces, bench.rows),
            floor=bench.floor(),
            curve=_curve(faces, bench) if options.curve else {},
        )
        write_report(report, bench)
    return report


def setup_of(options: Options, shard: Shard) -> dict[str, Any]:
    """Everything that decides the figures of a row, but for its own config."""
    return {
        "format_version": FORMAT_VERSION,
        "data": shard.digest(),
        "split": options.split,
        "quick": options.quick,
        "seed": options.seed,
        "minutes": options.minutes,
        "machine": machine(),
    }


def learn_in_turns(rungs: Sequence[Rung], bench: Bench) -> None:
    """Let every row that is trained by the clock learn for a turn, then for the next one.

    Whatever else the machine does, heat and neighbours, it does to all of them.
    """
    learning = [
        (rung.learn, bench.job(rung)) for rung in rungs if rung.learn and not bench.row(rung)
    ]
    for until in [*np.arange(TURN, bench.budget, TURN), bench.budget]:
        for learn, job in learning:
            learn(job, until)


def judged(rung: Rung, bench: Bench) -> Row:
    """The row as it is in the bench's folder, or else made, judged and kept there."""
    row = bench.row(rung)
    if row is None:
        judges, job = bench.judges, bench.job(rung)
        method = rung.fit(job)
        scores = judge(method, bench.faces, bench.rows, judges, watch=job.watch)
        row = Row(rung.name, rung.label, method.facts, scores, _seen_through(method, bench))
        write_row(job.folder, row, recipe=rung.recipe)
    return row


def write_report(report: Report, bench: Bench) -> None:
    """The figures as Markdown and JSON, and the grid."""
    write_bench(bench.out, to_json(report))
    write_atomic(bench.out / TABLE, to_markdown(report).encode())
    photos = ("photos", bench.faces.images(bench.shown))
    grid = draw_grid([photos, *((row.label, row.shown) for row in report.rows)])
    with written_whole(bench.out / GRID, force=True) as temporary:
        grid.save(temporary)


def _shard(options: Options, watch: Watch) -> Shard:
    return shard_for(
        DataConfig(source="celeba", path=str(options.data)),
        seed=options.seed,
        progress=lambda done, total: watch("preparing", done, total),
    )


def _seen_through(method: Method, bench: Bench) -> NDArray[np.uint8]:
    """What a method makes of the faces of the grid."""
    pixels, landmarks = bench.faces.images(bench.shown), bench.faces.landmarks(bench.shown)
    return method.decode(method.encode(pixels, landmarks))


# --- PCA by numbers and framing --------------------------------------------------------------


def _curve(shard: Shard, bench: Bench) -> Curve:
    """PCA to CURVE_NUMBERS of the faces as they are and tight."""
    framings: Mapping[str, BenchFaces] = {"portrait": shard, "tight": TightFaces(shard)}
    found = {}
    for framing, faces in framings.items():
        out = bench.out / "curve" / framing
        framed = replace(bench, out=out, faces=faces, pictures_only=True)
        found[framing] = [judged(rung, framed) for rung in _curve_rungs(framing)]
    return found


def _curve_rungs(framing: str) -> list[Rung]:
    """All of one fit, made when the first of them is."""
    widest: list[PCA] = []

    def fit(numbers: int, job: Job) -> PCA:
        if not widest:
            widest.append(fit_pca(job.faces, job.rows, max(CURVE_NUMBERS), on_pass=job.on_pass))
        return truncated(widest[0], numbers)

    return [
        Rung(f"pca-{numbers}", f"PCA-{numbers}, {framing}", functools.partial(fit, numbers))
        for numbers in CURVE_NUMBERS
    ]


# --- progress --------------------------------------------------------------------------------


@contextmanager
def _progress() -> Iterator[WatchOf]:
    """One bar on stderr for whatever is going on; nothing where stderr is not a terminal."""
    with progress_bars("what", "bar", "elapsed", "left") as bar:
        tasks: dict[str, TaskID] = {}

        def watch(label: str, what: str, done: float, total: float) -> None:
            name = f"{label}: {what}"
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield lambda label: functools.partial(watch, label)
