r"""The convolutional variational autoencoder of the textbooks, as it is usually written.

Five 3x3 convolutions of stride 2 (32, 64, 128, 256, 512 channels), each with BatchNorm and
LeakyReLU; linear layers to mean and log variance; the way back mirrors it with transposed
convolutions and ends in one more convolution and tanh. 6.3 M parameters at 128 px. It sees plain
frames, in float32, under Adam with a constant step size of 1e-3 and batches of 64, and pays the
same loss for as long as the model it is compared with; only an adversarial term is left out.

Images are (B, 3, S, S) floats in [-1, 1]; codes are (B, D). BatchNorm, which nothing else here
uses, mixes the images of a batch: that is part of what is compared.

References:
    | Auto-Encoding Variational Bayes (Kingma & Welling, 2014)
    | Batch Normalization (Ioffe & Szegedy, 2015)
    | PyTorch-VAE, "VanillaVAE" (Subramanian, 2020): these layers
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.clock import ClockRun, Course
from benchmarks.method import Facts, standard_normal
from facemorph_core.config.schema import LossConfig, RunConfig, TrainingConfig, VAEConfig
from facemorph_core.errors import ModelError, TrainingDiverged
from facemorph_core.learning.models import Posterior, Reconstruction, count_parameters
from facemorph_core.learning.models.vae import LOG_VAR_RANGE
from facemorph_core.learning.training.augment import augmented
from facemorph_core.learning.training.batches import Faces, load_batch, to_images
from facemorph_core.learning.training.checkpoint import prefixed, under
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.learning.training.objective import (
    load_feature_nets,
    reconstruction_terms,
    total,
    weights_at,
)
from facemorph_core.learning.training.optimiser import Optimiser
from facemorph_core.learning.training.reconstruct import device_of, to_pixels
from facemorph_core.learning.training.trainer import Moment, check_finite_weights

__all__ = [
    "Textbook",
    "TextbookTrainer",
    "TextbookVAE",
    "textbook_config",
    "textbook_course",
]

CHANNELS = (32, 64, 128, 256, 512)
LEARNING_RATE, BATCH_SIZE = 1e-3, 64


class TextbookVAE(nn.Module):
    """Encoder and decoder joined by a Gaussian latent."""

    def __init__(self, image_size: int = 128, latent_dim: int = 128) -> None:
        super().__init__()
        if image_size % 2 ** len(CHANNELS):
            raise ValueError(f"image_size must be a multiple of 32, got {image_size}")
        self.latent_dim = latent_dim
        self.grid = (CHANNELS[-1], *[image_size // 2 ** len(CHANNELS)] * 2)
        features = math.prod(self.grid)
        down = [_halving(a, b) for a, b in itertools.pairwise((3, *CHANNELS))]
        up = [_doubling(a, b) for a, b in itertools.pairwise((*reversed(CHANNELS), CHANNELS[0]))]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.mean = nn.Linear(features, latent_dim)
        self.log_var = nn.Linear(features, latent_dim)
        self.from_code = nn.Linear(latent_dim, features)
        to_pixels = nn.Conv2d(CHANNELS[0], 3, 3, padding=1)
        self.decoder = nn.Sequential(*up, to_pixels, nn.Tanh())

    @classmethod
    def seeded(cls, image_size: int, latent_dim: int, *, seed: int) -> TextbookVAE:
        """At torch's own starting values, drawn from ``seed``; the global stream is untouched."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(image_size, latent_dim)

    def encode(self, images: Float[Tensor, "b 3 s s"]) -> Posterior:
        h = self.encoder(images)
        return Posterior(self.mean(h), self.log_var(h).clamp(*LOG_VAR_RANGE))

    def decode(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 s s"]:
        return self.decoder(self.from_code(z).unflatten(1, self.grid))

    def forward(
        self, images: Float[Tensor, "b 3 s s"], generator: torch.Generator
    ) -> Reconstruction:
        posterior = self.encode(images)
        z = posterior.sample(generator)
        return Reconstruction(self.decode(z), z, posterior)


class TextbookTrainer:
    """One optimisation step after the other, as `benchmarks.clock` wants them."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.compute = choose_compute(config.training)
        self.device = self.compute.device
        model = TextbookVAE.seeded(
            config.model.image_size, config.model.latent_dim, seed=config.seed
        )
        self.model = model.to(self.device).train()
        self.optimiser = Optimiser(self.model, config.training, self.compute)
        self.nets = load_feature_nets(config, self.device)

    def step(self, faces: Faces, rows: NDArray[np.int64], at: Moment) -> dict[str, float]:
        """One step; the mean of each term over the batch, and their weighted sum as "loss".

        Raises:
            TrainingDiverged: the loss is not finite; weights are as before the step.
        """
        config = self.config
        batch = load_batch(faces, rows, config, self.device)
        batch = augmented(batch, config.training, at.stream(config.seed, "augment"))
        crops = at.stream(config.seed, "crop")
        with self.compute.autocast():
            made = self.model(batch.images, at.stream(config.seed, "posterior"))
            terms = reconstruction_terms(made, batch, config, nets=self.nets, crops=crops)
        weights = weights_at(config.loss, at.share, latent_dim=self.model.latent_dim)
        loss = total(terms, weights).mean()
        if not bool(loss.isfinite()):
            raise TrainingDiverged(f"the loss is no longer a finite number at {at}")
        self.model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimiser.step()
        means = {name: float(term.detach().mean()) for name, term in terms.items()}
        return means | {"loss": float(loss.detach())}

    def check_weights(self, at: Moment) -> None:
        check_finite_weights(self.model.state_dict(), after=str(at))

    def tensors(self) -> dict[str, Tensor]:
        """Weights, BatchNorm's running moments, and the optimiser."""
        state = self.optimiser.tensors()
        return prefixed("model", self.model.state_dict()) | prefixed("optimiser", state)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        try:
            self.model.load_state_dict(under("model", tensors))
        except RuntimeError as error:
            raise ModelError("the checkpoint is not the textbook model's") from error
        self.optimiser.restore(under("optimiser", tensors))


@dataclass(frozen=True, eq=False)
class Textbook:
    """The trained textbook model; its prior is N(0, I)."""

    model: TextbookVAE
    facts: Facts
    name: str = "Textbook VAE"

    @torch.no_grad()
    def encode(
        self, pixels: NDArray[np.uint8], landmarks: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        return self.model.encode(to_images(pixels, device_of(self.model))).mean.cpu().numpy()

    @torch.no_grad()
    def decode(self, codes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        values = torch.from_numpy(np.ascontiguousarray(codes, np.float32))
        return to_pixels(self.model.decode(values.to(device_of(self.model))))

    def sample(self, count: int, *, seed: int) -> NDArray[np.float32]:
        return standard_normal(count, self.facts.numbers, seed=seed)


def textbook_config(
    loss: LossConfig, *, image_size: int = 128, latent_dim: int = 128, seed: int = 0
) -> RunConfig:
    """Everything that decides the textbook model's run, under ``loss`` without an adversary."""
    return RunConfig(
        name="textbook",
        seed=seed,
        model=VAEConfig(image_size=image_size, latent_dim=latent_dim),
        loss=loss.model_copy(update={"adversarial": 0.0}),
        training=TrainingConfig(
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            grad_clip=0.0,
            precision="float32",
        ),
    )


def textbook_course(config: RunConfig) -> Course[TextbookTrainer, Textbook]:
    """How it learns by the clock; ``config`` as `textbook_config` makes it."""
    return Course(
        config,
        begin=lambda: TextbookTrainer(config),
        give_away=lambda trainer, _faces, _folder: trainer.model.state_dict(),
        learnt=lambda run: _learnt(config, run),
    )


def _learnt(config: RunConfig, run: ClockRun) -> Textbook:
    model = TextbookVAE(config.model.image_size, config.model.latent_dim)
    model.load_state_dict(run.released())
    facts = Facts(
        numbers=config.model.latent_dim,
        parameters=count_parameters(model),
        images_seen=run.state.images,
        seconds=run.state.elapsed,
        note="float32, BatchNorm, Adam 1e-3, batch 64, plain frames; prior: N(0, I)",
    )
    return Textbook(model.to(choose_compute(config.training).device).eval(), facts)


def _halving(channels: int, channels_out: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, C', H/2, W/2)."""
    conv = nn.Conv2d(channels, channels_out, 3, stride=2, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.LeakyReLU())


def _doubling(channels: int, channels_out: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, C', 2H, 2W)."""
    conv = nn.ConvTranspose2d(channels, channels_out, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.LeakyReLU())
