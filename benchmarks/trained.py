"""The project's own model, trained in one place by the clock.

The steps are those of every other training (`facemorph_core.learning.training.trainer`); only the
share of the run that is done is that of a budget of seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.clock import ClockRun, Course
from benchmarks.method import Facts, standard_normal
from facemorph_core.config.schema import AEConfig, RunConfig
from facemorph_core.errors import ConfigError
from facemorph_core.latent.geometry import Geometry, geometry_of
from facemorph_core.learning.models import Autoencoder, build_model, count_parameters
from facemorph_core.learning.training.batches import Faces
from facemorph_core.learning.training.central import released
from facemorph_core.learning.training.checkpoint import load_tensors, save_tensors
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.learning.training.gradients import BatchGradients
from facemorph_core.learning.training.reconstruct import decode, encode
from facemorph_core.learning.training.trainer import Trainer
from facemorph_core.shards.rows import spread

__all__ = ["Gaussian", "Ours", "course", "fitted_gaussian"]

PRIOR_FACES = 4000
"""Training faces whose codes the prior of a plain autoencoder is fitted to."""
BATCH = 64


@dataclass(frozen=True, eq=False, slots=True)
class Gaussian:
    """N(mean, factor^T factor)."""

    mean: NDArray[np.float32]
    factor: NDArray[np.float32]

    def of(self, standard: NDArray[np.float32]) -> NDArray[np.float32]:
        """Draws from N(0, I), (n, D), as draws from this."""
        return standard @ self.factor + self.mean


@dataclass(frozen=True, eq=False)
class Ours:
    """A trained autoencoder of the project, in its own geometry."""

    name: str
    model: Autoencoder
    geometry: Geometry
    facts: Facts
    texture_prior: Gaussian | None = None
    """Of the numbers that the networks make; None is N(0, I). The shape's are N(0, I) always:
    their basis is whitened."""
    fit: int = 0
    """Steps that fit each code to its face."""

    def encode(
        self, pixels: NDArray[np.uint8], landmarks: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        return encode(self.model, self.geometry, pixels, landmarks, fit=self.fit)

    def decode(self, codes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        return decode(self.model, self.geometry, codes)

    def sample(self, count: int, *, seed: int) -> NDArray[np.float32]:
        """From N(0, I), or for a plain autoencoder as its training faces' codes are spread."""
        standard = standard_normal(count, self.facts.numbers, seed=seed)
        if self.texture_prior is None:
            return standard
        shape, texture = self.geometry.split(standard)
        return self.geometry.join(shape, self.texture_prior.of(texture))


def course(config: RunConfig) -> Course[Trainer, Ours]:
    """How the model of ``config`` learns by the clock.

    Raises:
        ConfigError: the config asks for privacy, which only sites offer.
    """
    if config.privacy is not None:
        raise ConfigError(config.name, ["privacy: the benchmark compares training without it"])
    geometry = geometry_of(config.model.geometry, config.model.image_size)

    def begin() -> Trainer:
        model = build_model(config.model, seed=config.seed)
        return Trainer(BatchGradients(model, config, seed=config.seed))

    def give_away(trainer: Trainer, faces: Faces, folder: Path) -> Mapping[str, Tensor]:
        model = released(trainer)
        if isinstance(config.model, AEConfig):
            _save_prior(folder, fitted_gaussian(_texture_codes(model, geometry, faces)))
        return model.state_dict()

    return Course(config, begin, give_away, learnt=lambda run: _learnt(config, geometry, run))


def fitted_gaussian(codes: NDArray[np.float32]) -> Gaussian:
    """Mean and full covariance of codes (n, D)."""
    covariance = np.cov(codes.astype(np.float64), rowvar=False, bias=True).reshape(
        codes.shape[1], -1
    )
    variances, axes = np.linalg.eigh(covariance)
    factor = np.sqrt(variances.clip(min=0))[:, None] * axes.T
    return Gaussian(codes.mean(axis=0), factor.astype(np.float32))


def _learnt(config: RunConfig, geometry: Geometry, run: ClockRun) -> Ours:
    model = build_model(config.model)
    model.load_state_dict(run.released())
    prior, note = None, "prior: N(0, I)"
    if isinstance(config.model, AEConfig):
        prior = Gaussian(**{k: v.numpy() for k, v in load_tensors(_prior_file(run.path)).items()})
        note = "prior: Gaussian fitted to codes of training faces"
    facts = Facts(
        numbers=config.model.latent_dim,
        parameters=count_parameters(model),
        images_seen=run.state.images,
        seconds=run.state.elapsed,
        note=f"{config.model.kind}, {config.model.geometry}; {note}",
    )
    model.to(choose_compute(config.training).device).eval()
    return Ours(config.name, model, geometry, facts, prior)


def _texture_codes(model: Autoencoder, geometry: Geometry, shard: Faces) -> NDArray[np.float32]:
    """Of training faces, spread over all of them."""
    rows = spread(shard.rows("train"), PRIOR_FACES)
    parts = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        codes = encode(model, geometry, shard.images(batch), shard.landmarks(batch))
        parts.append(geometry.split(codes)[1])
    return np.concatenate(parts)


def _save_prior(out: Path, prior: Gaussian) -> None:
    arrays = {"mean": prior.mean, "factor": prior.factor}
    save_tensors(_prior_file(out), {name: torch.from_numpy(a) for name, a in arrays.items()})


def _prior_file(out: Path) -> Path:
    return out / "prior.safetensors"
