"""The rows of the quality table, from what costs nothing to what is trained longest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.clock import ClockRun, Course
from benchmarks.floors import fit_dct, fit_pca, fit_shape_texture
from benchmarks.judge import Watch
from benchmarks.method import Method
from benchmarks.released import Released
from benchmarks.textbook import textbook_config, textbook_course
from benchmarks.trained import Ours, course
from facemorph_core.bundle import open_bundle
from facemorph_core.bundle.find import find_model
from facemorph_core.config import load_run_config
from facemorph_core.config.load import digest
from facemorph_core.config.schema import RunConfig
from facemorph_core.learning.training.batches import Faces
from facemorph_core.learning.training.trainer import Trainer

__all__ = ["BASELINE", "PAIRS", "Fit", "Job", "Rung", "ladder", "released"]

BASELINE = "pca-128"
"""What every method is compared with, face by face."""
PAIRS = {
    "VAE less textbook VAE": ("vae", "textbook-vae"),
    "mean shape less plain frame": ("vae", "vae-plain"),
    "VAE less AE": ("vae", "ae"),
    "codes fitted less encoded": ("vae-fitted", "vae"),
    "perceptual less squared error": ("vae-perceptual", "vae"),
    "VAE-GAN less VAE": ("vaegan", "vae-perceptual"),
}
"""Rows that differ in one thing."""
NUMBERS = 128
M = TypeVar("M", bound=Method)
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@dataclass(frozen=True, slots=True)
class Job:
    """What a method is fitted with."""

    faces: Faces
    budget: float
    """Seconds, for what is trained by the clock."""
    folder: Path
    """Of this row, where a training keeps what it goes on from."""
    watch: Watch

    @property
    def rows(self) -> NDArray[np.int64]:
        return self.faces.rows("train")

    def clock(self, config: RunConfig) -> ClockRun:
        """What is trained with this config so far."""
        return ClockRun.opened(self.folder, config, budget=self.budget)

    def on_pass(self, done: int, total: int) -> None:
        self.watch("fitting", done, total)

    def on_clock(self, done: float, budget: float, _terms: Any) -> None:
        self.watch("training (s)", done, budget)


Fit = Callable[[Job], Method]
Learn = Callable[[Job, float], None]
"""Goes on learning until its clock shows so many seconds of the job's budget."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One row before it is made."""

    name: str
    label: str
    fit: Fit
    recipe: str = ""
    """Digest of the config or of the finished networks, if there are such."""
    learn: Learn | None = None
    """For what is trained by the clock: `fit` is the last part of it."""


def ladder(*, seed: int) -> list[Rung]:
    """All rows, in the order of the table."""

    def ours(name: str) -> Course[Trainer, Ours]:
        return course(load_run_config(CONFIGS / f"{name}.yaml", [f"seed={seed}"]))

    vae = ours("quality_vae")
    textbook = textbook_config(vae.config.loss, latent_dim=NUMBERS, seed=seed)
    return [
        Rung("dct-128", "DCT-128, untrained", lambda job: fit_dct(job.faces, job.rows, NUMBERS)),
        Rung(
            BASELINE,
            "PCA-128",
            lambda job: fit_pca(job.faces, job.rows, NUMBERS, on_pass=job.on_pass),
        ),
        Rung(
            "shape24+pca104",
            "Shape 24 + PCA 104",
            lambda job: fit_shape_texture(job.faces, job.rows, NUMBERS, on_pass=job.on_pass),
        ),
        _by_clock("textbook-vae", "Textbook VAE", textbook_course(textbook)),
        _by_clock("ae", "AE, mean shape", ours("quality_ae")),
        _by_clock("vae", "VAE, mean shape", vae),
        Rung(
            "vae-fitted",
            "VAE, mean shape, codes fitted",
            partial(_fitted, vae),
            digest(vae.config),
        ),
        _by_clock("vae-plain", "VAE, plain frame", ours("quality_plain")),
        _by_clock("vae-perceptual", "VAE, perceptual", ours("quality_perceptual")),
        _by_clock("vaegan", "VAE-GAN, perceptual", ours("quality_vaegan")),
        released("starter"),
    ]


def released(ref: str, *, fit: int = 0) -> Rung:
    """The row of a finished model, whatever it was trained on: its card says that.

    With ``fit`` steps that bring each code nearer to its face, it is a row of its own.

    Raises:
        ModelError: there is no such model, or it is damaged.
    """
    bundle = open_bundle(find_model(ref))
    name, recipe = bundle.manifest.name, bundle.manifest.networks
    label = f"{name}, as released"
    if fit:
        name, recipe, label = f"{name}-fitted", f"{recipe}, {fit} steps", f"{label}, codes fitted"
    return Rung(name, label, lambda _: Released(bundle, fit=fit), recipe)


def _by_clock(name: str, label: str, course: Course[Any, Any]) -> Rung:
    return Rung(
        name,
        label,
        fit=partial(_completed, course),
        recipe=digest(course.config),
        learn=lambda job, until: course.go_on(
            job.faces, job.clock(course.config), until, on_step=job.on_clock
        ),
    )


def _completed(course: Course[Any, M], job: Job) -> M:
    return course.complete(job.faces, budget=job.budget, out=job.folder, on_step=job.on_clock)


def _fitted(course: Course[Any, Ours], job: Job) -> Method:
    """The model of the row "vae", its codes fitted by one step."""
    trained = _completed(course, replace(job, folder=job.folder.with_name("vae")))
    return replace(trained, facts=trained.facts.fitted(1), fit=1)
