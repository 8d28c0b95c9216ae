"""Ordinary gradients: those of the mean loss of whole batches. A discriminator learns beside them.

Under differential privacy they are made otherwise: see `private`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facemorph_core.config.schema import RunConfig
from facemorph_core.learning.models import Autoencoder, Reconstruction
from facemorph_core.learning.training.augment import augmented
from facemorph_core.learning.training.batches import Faces, load_batch
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.learning.training.discriminator import DiscriminatorState
from facemorph_core.learning.training.objective import (
    has_adversary,
    load_feature_nets,
    reconstruction_terms,
    total,
    weights_at,
)
from facemorph_core.learning.training.optimiser import set_rate
from facemorph_core.learning.training.schedule import learning_rate
from facemorph_core.learning.training.streams import derive_seed
from facemorph_core.learning.training.trainer import Moment, check_finite


class BatchGradients:
    """The gradient of a batch's mean loss (`Gradients`); all that is random comes from ``seed``.

    A VAE-GAN's discriminator takes its own step with each batch; it gets a fresh one unless there
    is one to go on with.
    """

    def __init__(
        self,
        model: Autoencoder,
        config: RunConfig,
        *,
        seed: int,
        discriminator: DiscriminatorState | None = None,
    ) -> None:
        self.config, self.seed = config, seed
        self.compute = choose_compute(config.training)
        self.model = model.to(self.compute.device).train()
        model.to(memory_format=torch.channels_last)
        self.longest = config.training.grad_clip or math.inf
        self.nets = load_feature_nets(config, self.compute.device)
        self.discriminator: DiscriminatorState | None = None
        if has_adversary(config):
            fresh_seed = derive_seed(seed, "discriminator")
            self.discriminator = discriminator or DiscriminatorState.fresh(config, seed=fresh_seed)
            self.discriminator.to(self.compute.device)
            self.discriminator.network.train()

    def fill(self, faces: Faces, rows: NDArray[np.int64], at: Moment) -> dict[str, float]:
        """Put the gradient into the model's parameters; see `Gradients.fill`.

        Raises:
            TrainingDiverged: a term is not finite.
        """
        with self.compute.repeatable():
            return self._filled(faces, rows, at)

    def _filled(self, faces: Faces, rows: NDArray[np.int64], at: Moment) -> dict[str, float]:
        watched = self.config.loss.identity_faces
        batch = load_batch(faces, rows, self.config, self.compute.device, watched=watched)
        batch = augmented(batch, self.config.training, at.stream(self.seed, "augment"))
        images = batch.images
        weights = weights_at(self.config.loss, at.share, latent_dim=self.model.latent_dim)
        adversary = self.discriminator if weights["adversarial"] > 0 else None

        with self.compute.autocast():
            made: Reconstruction = self.model(images, at.stream(self.seed, "posterior"))
            crops = at.stream(self.seed, "crop")
            terms = reconstruction_terms(made, batch, self.config, nets=self.nets, crops=crops)
            if adversary is not None:
                samples = self._samples(images, at)
                terms["adversarial"] = adversary.fools(made.images, samples)
        loss = total(terms, weights).mean()
        values = {name: float(term.detach().mean()) for name, term in terms.items()}
        values["loss"] = float(loss.detach())
        check_finite(values, at)
        self.model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if adversary is not None:
            values["discriminator"] = self._train(adversary, images, made.images, samples, at)
        elif self.discriminator is not None:
            values |= {"adversarial": 0.0, "discriminator": 0.0}
        return values

    def _samples(self, images: Tensor, at: Moment) -> Tensor:
        """As many faces from random codes as there are images."""
        generator = at.stream(self.seed, "samples")
        codes = torch.randn(len(images), self.model.latent_dim, generator=generator)
        return self.model.decode(codes.to(images.device))

    def _train(
        self,
        adversary: DiscriminatorState,
        real: Tensor,
        reconstructions: Tensor,
        samples: Tensor,
        at: Moment,
    ) -> float:
        """The discriminator's own step, and its term."""
        set_rate(adversary.optimiser, learning_rate(self.config.training, at.share))
        with self.compute.autocast():
            term = adversary.judges(real, reconstructions, samples).mean()
        value = float(term.detach())
        check_finite({"discriminator": value}, at)
        adversary.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(term)
        torch.nn.utils.clip_grad_norm_(adversary.network.parameters(), self.longest)
        adversary.optimiser.step()
        return value
