"""Who trains in the comparison: the textbook VAE twice, and the project's own model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.method import Method
from benchmarks.textbook import (
    TextbookTrainer,
    textbook_config,
    textbook_course,
)
from benchmarks.trained import course
from facemorph_core.config import RunConfig, load_run_config
from facemorph_core.learning.models import count_parameters
from facemorph_core.learning.training.batches import Faces
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.learning.training.trainer import Trainer

__all__ = ["Entrant", "entrants", "our_config"]

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "quality_vae.yaml"
FAST = ("training.batch_size=64", "training.learning_rate=2.8e-3")
"""The textbook's batch; the rate grows with its root."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """One model with its way of training."""

    name: str
    config: RunConfig
    begin: Callable[[], Trainer | TextbookTrainer]
    complete: Callable[[Faces, float, Path], Method]
    """Train for so many seconds, in a folder of its own; what was there goes on."""

    @property
    def batch_size(self) -> int:
        return self.config.training.batch_size


def our_config(*, seed: int = 0) -> RunConfig:
    """The project's own model and its training."""
    return load_run_config(CONFIG, [f"seed={seed}", *FAST])


def entrants(*, seed: int = 0) -> list[Entrant]:
    """The textbook VAE as people run it, the same in bfloat16, and ours; all with one loss.

    Where ours does without bfloat16, because this machine would emulate it, so do all.
    """
    ours = our_config(seed=seed)
    compute = choose_compute(ours.training)
    book = textbook_config(ours.loss, latent_dim=ours.model.latent_dim, seed=seed)
    half = book.model_copy(
        update={
            "name": "textbook-bfloat16",
            "training": book.training.model_copy(update={"precision": "bfloat16"}),
        }
    )
    return [
        _textbook("Textbook VAE, float32", book),
        *([_textbook("Textbook VAE, bfloat16", half)] if compute.bfloat16 else []),
        Entrant(
            "facemorph VAE",
            ours,
            begin=course(ours).begin,
            complete=lambda faces, seconds, out: course(ours).complete(
                faces, budget=seconds, out=out
            ),
        ),
    ]


def parameters(trainer: Trainer | TextbookTrainer) -> int:
    """Numbers that the entrant learns."""
    return count_parameters(trainer.model)


def _textbook(name: str, config: RunConfig) -> Entrant:
    return Entrant(
        name,
        config,
        begin=lambda: TextbookTrainer(config),
        complete=lambda faces, seconds, out: textbook_course(config).complete(
            faces, budget=seconds, out=out
        ),
    )
