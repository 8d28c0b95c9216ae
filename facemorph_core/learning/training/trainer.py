"""One optimisation step, and everything that lasts from one step to the next.

A round at a site (`local`, `private`) and central training (`central`) drive the same `Trainer`;
how they differ is in the `Gradients` that it steps along.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ModelError, TrainingDiverged
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.training.batches import Faces
from facemorph_core.learning.training.checkpoint import prefixed, under
from facemorph_core.learning.training.compute import Compute
from facemorph_core.learning.training.discriminator import DiscriminatorState
from facemorph_core.learning.training.ema import Ema
from facemorph_core.learning.training.optimiser import Optimiser
from facemorph_core.learning.training.schedule import learning_rate
from facemorph_core.learning.training.streams import stream

ADVICE = (
    "lower training.learning_rate, turn training.grad_clip on, or set training.precision=float32"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in the run a step is: the share of it that is done, and the address of its streams."""

    share: float
    epoch: int
    step: int
    """Counts from 0 in each epoch."""

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, step {self.step + 1}"

    def stream(self, seed: int, purpose: str) -> torch.Generator:
        return stream(seed, purpose, self.epoch, self.step)


@dataclass
class Tally:
    """Sums of per-image terms, so that means weigh every image alike."""

    images: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, terms: Mapping[str, float], images: int) -> None:
        """Take in the means over a batch."""
        self.images += images
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * images

    def means(self) -> dict[str, float]:
        return {name: value / self.images for name, value in self.sums.items()}


@runtime_checkable
class Gradients(Protocol):
    """How faces become the gradient of a step."""

    config: RunConfig
    compute: Compute
    model: Autoencoder
    """In training, where ``compute`` has it."""
    longest: float
    """A step's gradient, FedProx's part included, is shortened to this length; may be infinite."""
    discriminator: DiscriminatorState | None
    """What learns beside the model."""

    def fill(self, faces: Faces, rows: NDArray[np.int64], at: Moment) -> dict[str, float]:
        """Put the gradient of these rows of ``faces`` into the model's parameters.

        What learns beside the model takes its own step.

        Returns:
            The mean of each term over the rows, and their weighted sum as "loss".
        """


class Trainer:
    """A model in training: gradients, optimiser, running mean. Changes it in place.

    ``proximal_mu`` holds the weights near those that the model has now (FedProx).
    """

    def __init__(self, gradients: Gradients, *, proximal_mu: float = 0.0) -> None:
        self.gradients, self.config = gradients, gradients.config
        self.model, training = gradients.model, gradients.config.training
        self.optimiser = Optimiser(self.model, training, gradients.compute)
        self.ema = Ema(self.model, training.ema_decay) if training.ema_decay else None
        self.proximal_mu = proximal_mu
        weights = self.model.parameters() if proximal_mu else ()
        self.anchor = [p.detach().clone() for p in weights]

    def step(self, faces: Faces, rows: NDArray[np.int64], at: Moment) -> dict[str, float]:
        """One step on these rows of ``faces``; the terms of `Gradients.fill`, and FedProx's.

        Raises:
            TrainingDiverged: a term or the gradient is not finite; the model is as before the step.
        """
        self.optimiser.set_rate(learning_rate(self.config.training, at.share))
        terms = self.gradients.fill(faces, rows, at)
        if self.proximal_mu:
            terms["proximal"] = add_proximal_gradient(self.model, self.anchor, self.proximal_mu)
            terms["loss"] = terms.get("loss", 0.0) + terms["proximal"]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.gradients.longest)
        check_finite({"the gradient's norm": float(norm)}, at)
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update(self.model)
        return terms

    def check_weights(self, at: Moment) -> None:
        """Raise TrainingDiverged if a weight, or the mean of one, is no longer a number."""
        check_finite_weights(self.model.state_dict(), after=str(at))
        if self.ema is not None:
            check_finite_weights(self.ema.mean, after=str(at))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs: see `restore`."""
        tensors = prefixed("model", self.model.state_dict())
        tensors |= prefixed("optimiser", self.optimiser.tensors())
        if self.ema is not None:
            tensors |= prefixed("ema", self.ema.mean)
            tensors["ema_updates"] = torch.tensor(self.ema.updates)
        if self.gradients.discriminator is not None:
            tensors |= prefixed("discriminator", self.gradients.discriminator.tensors())
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `tensors`.

        Raises:
            ModelError: they belong to another config.
        """
        try:
            self.model.load_state_dict(under("model", tensors))
        except RuntimeError as error:
            raise ModelError("the checkpoint does not fit the config's model") from error
        self.optimiser.restore(under("optimiser", tensors))
        if self.ema is not None:
            self.ema.load(under("ema", tensors), int(tensors["ema_updates"]))
        if self.gradients.discriminator is not None:
            self.gradients.discriminator.restore(under("discriminator", tensors))


@torch.no_grad()
def add_proximal_gradient(model: Autoencoder, anchor: list[Tensor], mu: float) -> float:
    """Add the gradient mu (w - w0) of FedProx's term; returns the term, mu/2 |w - w0|^2."""
    squares = 0.0
    for parameter, start in zip(model.parameters(), anchor, strict=True):
        away = parameter - start
        squares += float(away.square().sum())
        if parameter.grad is not None:
            parameter.grad.add_(away, alpha=mu)
    return 0.5 * mu * squares


def check_finite_weights(weights: Mapping[str, Tensor], *, after: str) -> None:
    """Raise TrainingDiverged if a weight is no longer a number."""
    for name, value in weights.items():
        if not bool(value.isfinite().all()):
            raise TrainingDiverged(
                f"the weight {name} is no longer a finite number after {after}", hint=ADVICE
            )


def check_finite(values: Mapping[str, float], at: Moment) -> None:
    """Raise TrainingDiverged and name what is no longer a number."""
    wrong = [f"{name} ({value})" for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise TrainingDiverged(
            f"no longer a finite number at {at}: {', '.join(wrong)}", hint=ADVICE
        )
