"""The rows of the quality table, from what costs nothing to what is trained longest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.bundle import find_model, open_bundle
from facemorph_core.config import load_run_config
from facemorph_core.config.load import digest
from facemorph_core.config.schema import LossConfig, RunConfig
from facemorph_core.training.batches import Faces
from simulations.bench.clock import ClockRun
from simulations.bench.floors import fit_dct, fit_pca, fit_shape_texture
from simulations.bench.judge import Watch
from simulations.bench.method import Method
from simulations.bench.released import Released
from simulations.bench.textbook import textbook_config, train_textbook, train_textbook_until
from simulations.bench.trained import train_for, train_until

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
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


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
    vae = _config("quality_vae", seed=seed)
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
        _textbook(vae.loss, seed=seed),
        _ours("ae", "AE, mean shape", _config("quality_ae", seed=seed)),
        _ours("vae", "VAE, mean shape", vae),
        Rung("vae-fitted", "VAE, mean shape, codes fitted", partial(_fitted, vae), digest(vae)),
        _ours("vae-plain", "VAE, plain frame", _config("quality_plain", seed=seed)),
        _ours("vae-perceptual", "VAE, perceptual", _config("quality_perceptual", seed=seed)),
        _ours("vaegan", "VAE-GAN, perceptual", _config("quality_vaegan", seed=seed)),
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


def _textbook(loss: LossConfig, *, seed: int) -> Rung:
    config = textbook_config(loss, latent_dim=NUMBERS, seed=seed)

    def learn(job: Job, until: float) -> None:
        train_textbook_until(until, config, job.faces, job.clock(config), progress=job.on_clock)

    def fit(job: Job) -> Method:
        return train_textbook(
            loss,
            job.faces,
            budget=job.budget,
            out=job.folder,
            latent_dim=NUMBERS,
            seed=seed,
            progress=job.on_clock,
        )

    return Rung("textbook-vae", "Textbook VAE", fit, digest(config), learn)


def _ours(name: str, label: str, config: RunConfig) -> Rung:
    def learn(job: Job, until: float) -> None:
        train_until(until, config, job.faces, job.clock(config), progress=job.on_clock)

    def fit(job: Job) -> Method:
        return train_for(
            config, job.faces, budget=job.budget, out=job.folder, progress=job.on_clock
        )

    return Rung(name, label, fit, digest(config), learn)


def _fitted(config: RunConfig, job: Job) -> Method:
    """The model of the row "vae", its codes fitted by one step."""
    folder = job.folder.with_name("vae")
    trained = train_for(config, job.faces, budget=job.budget, out=folder, progress=job.on_clock)
    return replace(trained, facts=trained.facts.fitted(1), fit=1)


def _config(name: str, *, seed: int) -> RunConfig:
    return load_run_config(CONFIGS / f"{name}.yaml", [f"seed={seed}"])
