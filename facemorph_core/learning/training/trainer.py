"""One optimisation step, and everything that lasts from one step to the next.

A federated round (`local`) and central training (`central`) drive the same `Trainer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import ModelError, TrainingDiverged
from facemorph_core.learning.models import Autoencoder, Reconstruction
from facemorph_core.learning.training.augment import augmented
from facemorph_core.learning.training.batches import Faces, load_batch
from facemorph_core.learning.training.checkpoint import prefixed, under
from facemorph_core.learning.training.compute import Compute
from facemorph_core.learning.training.discriminator import DiscriminatorState
from facemorph_core.learning.training.ema import Ema
from facemorph_core.learning.training.objective import (
    has_adversary,
    load_feature_nets,
    reconstruction_terms,
    total,
    weights_at,
)
from facemorph_core.learning.training.optimiser import Optimiser, set_rate
from facemorph_core.learning.training.schedule import learning_rate
from facemorph_core.learning.training.streams import derive_seed, stream

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


class Trainer:
    """A model in training: optimiser, running mean, adversary, streams. Changes it in place.

    ``proximal_mu`` holds the weights near those that the model has now (FedProx).
    """

    def __init__(
        self,
        model: Autoencoder,
        config: RunConfig,
        compute: Compute,
        *,
        seed: int,
        discriminator: DiscriminatorState | None = None,
        proximal_mu: float = 0.0,
    ) -> None:
        self.model = model.to(compute.device).train()
        model.to(memory_format=torch.channels_last)
        self.config, self.compute, self.seed = config, compute, seed
        self.optimiser = Optimiser(model, config.training, compute)
        decay = config.training.ema_decay
        self.ema = Ema(model, decay) if decay else None
        self.nets = load_feature_nets(config, compute.device)
        self.discriminator: DiscriminatorState | None = None
        if has_adversary(config):
            fresh_seed = derive_seed(seed, "discriminator")
            self.discriminator = discriminator or DiscriminatorState.fresh(config, seed=fresh_seed)
            self.discriminator.network.to(compute.device).train()
        self.proximal_mu = proximal_mu
        self.anchor = [p.detach().clone() for p in model.parameters()] if proximal_mu else []

    def step(self, faces: Faces, rows: NDArray[np.int64], at: Moment) -> dict[str, float]:
        """One step on these rows of ``faces``.

        Returns:
            The mean of each term over the batch, and their weighted sum as "loss".

        Raises:
            TrainingDiverged: a term or the gradient is not finite; weights are as before the step.
        """
        watched = self.config.loss.identity_faces
        batch = load_batch(faces, rows, self.config, self.compute.device, watched=watched)
        batch = augmented(batch, self.config.training, at.stream(self.seed, "augment"))
        images = batch.images
        self.optimiser.set_rate(learning_rate(self.config.training, at.share))
        weights = weights_at(self.config.loss, at.share, latent_dim=self.model.latent_dim)
        adversary = self.discriminator if weights["adversarial"] > 0 else None

        with self.compute.autocast():
            made: Reconstruction = self.model(images, at.stream(self.seed, "posterior"))
            terms = reconstruction_terms(
                made,
                batch,
                self.config,
                nets=self.nets,
                crops=at.stream(self.seed, "crop"),
            )
            if adversary is not None:
                samples = self._samples(images, at)
                terms["adversarial"] = adversary.fools(made.images, samples)
        loss = total(terms, weights).mean()
        values = {name: float(term.detach().mean()) for name, term in terms.items()}
        values["loss"] = float(loss.detach())
        _check_finite(values, at)
        self._update(loss, values, at)
        if adversary is not None:
            values["discriminator"] = self._train_adversary(
                adversary, images, made.images, samples, at
            )
        elif self.discriminator is not None:
            values |= {"adversarial": 0.0, "discriminator": 0.0}
        return values

    def check_weights(self, at: Moment) -> None:
        """Raise TrainingDiverged if a weight is no longer a number."""
        check_finite_weights(self.model.state_dict(), after=str(at))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs: see `restore`."""
        tensors = prefixed("model", self.model.state_dict())
        tensors |= prefixed("optimiser", self.optimiser.tensors())
        if self.ema is not None:
            tensors |= prefixed("ema", self.ema.mean)
            tensors["ema_updates"] = torch.tensor(self.ema.updates)
        if self.discriminator is not None:
            tensors |= prefixed("discriminator", self.discriminator.tensors())
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
        if self.discriminator is not None:
            self.discriminator.restore(under("discriminator", tensors))

    def _update(self, loss: Tensor, values: dict[str, float], at: Moment) -> None:
        self.model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.proximal_mu:
            values["proximal"] = add_proximal_gradient(self.model, self.anchor, self.proximal_mu)
            values["loss"] += values["proximal"]
        clip = self.config.training.grad_clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip))
        _check_finite({"the gradient's norm": norm}, at)
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update(self.model)

    def _samples(self, images: Tensor, at: Moment) -> Tensor:
        """As many faces from random codes as there are images."""
        generator = at.stream(self.seed, "samples")
        codes = torch.randn(len(images), self.model.latent_dim, generator=generator)
        return self.model.decode(codes.to(images.device))

    def _train_adversary(
        self,
        adversary: DiscriminatorState,
        real: Tensor,
        reconstructions: Tensor,
        samples: Tensor,
        at: Moment,
    ) -> float:
        set_rate(adversary.optimiser, learning_rate(self.config.training, at.share))
        with self.compute.autocast():
            term = adversary.judges(real, reconstructions, samples).mean()
        value = float(term.detach())
        _check_finite({"discriminator": value}, at)
        adversary.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(term)
        clip = self.config.training.grad_clip or math.inf
        torch.nn.utils.clip_grad_norm_(adversary.network.parameters(), clip)
        adversary.optimiser.step()
        return value


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


def _check_finite(values: Mapping[str, float], at: Moment) -> None:
    wrong = [f"{name} ({value})" for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise TrainingDiverged(
            f"no longer a finite number at {at}: {', '.join(wrong)}", hint=ADVICE
        )
