r"""What the weights of one site tell a coordinator who keeps to the protocol and looks closely.

The gradient of the decoder's first layer is a sum over photos of g_i z_i^T: its rows lie in the
span of the photos' codes. For one photo and one step it is the code itself, up to its length, and
the public decoder draws the face. For many steps there is still the loss: it falls further for
photos that took part.

References:
    | Deep Leakage from Gradients (Zhu et al., 2019)
    | Membership Inference Attacks Against Machine Learning Models (Shokri et al., 2017)
    | Privacy Risk in Machine Learning (Yeom et al., 2018): the loss as a test
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.audit.one_photo import private_round
from benchmarks.audit.photos import Photos, orl_photos
from benchmarks.audit.scores import Scores, Told, told
from facemorph_core.config.schema import RunConfig
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.training.batches import load_batch, to_images
from facemorph_core.learning.training.local import LocalRound, train_epochs
from facemorph_core.learning.training.start import starting_model

Optimiser = Literal["adam", "muon"]
ADAM_EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class Leaks:
    """What was found out without differential privacy, or with it."""

    one_photo: dict[str, float]
    """Cosine of the code that was read off one photo's step with its real code, by optimiser."""
    eight_photos: Told
    """Who is in the row space of one step over eight photos."""
    whole_round: dict[str, Told]
    """Whose photos' loss fell further in a round, by how the site trained."""


def site_config(optimiser: Optimiser, *, batch: int, private: bool = False) -> RunConfig:
    """A site that goes on from the starter as in configs/deployment.yaml."""
    rate = 2e-3 if optimiser == "muon" else 2e-4
    return RunConfig.model_validate(
        {
            "name": "audit",
            "start": "starter",
            "model": {"kind": "vae", "width": 48, "geometry": "mean_shape"},
            "loss": {"l1": 1.0, "squared": 1.0, "kl": 1e-3, "kl_warmup": 0.0},
            "training": {"optimiser": optimiser, "batch_size": batch, "learning_rate": rate},
            "privacy": {"noise_multiplier": 1.0, "max_epsilon": 1e9} if private else None,
        }
    )


def code_of_one_photo(optimiser: Optimiser, *, seed: int) -> float:
    """|cosine| of a photo's code with what its one step leaves in the decoder's first layer."""
    config, photo = site_config(optimiser, batch=1), orl_photos(1, seed=seed)
    before = starting_model(config)
    change = _head_change(before, photo, config)
    if optimiser == "adam":
        # The first step is r g / (|g| + epsilon): where |g| is not far above epsilon, g is left.
        step = (change / config.training.learning_rate).clamp(-1 + 1e-6, 1 - 1e-6)
        change = ADAM_EPSILON * step / (1 - step.abs())
    read = torch.linalg.svd(change.double(), full_matrices=False).Vh[0]
    return max(_cosine(read, code) for code in _codes(before, photo, config)[0])


def among_eight(*, seed: int, others: int) -> Told:
    """Membership by the row space of one Muon step over a batch of eight photos."""
    config, photos = site_config("muon", batch=8), orl_photos(8 + others, seed=seed)
    before = starting_model(config)
    change = _head_change(before, photos.only(np.arange(8)), config)
    span = torch.linalg.svd(change.double(), full_matrices=False).Vh[:8]
    lying = [
        max(float((span @ code).norm() / code.norm()) for code in both)
        for both in _codes(before, photos, config)
    ]
    return told(np.array(lying[:8]), np.array(lying[8:]))


def loss_drop(members: int, *, optimiser: Optimiser, private: bool, seed: int) -> Told:
    """Whether a person's photos were at the site, by how far their loss fell in a round.

    The site has ``members`` photos, all of its people, and takes 32 a step.
    """
    config = site_config(optimiser, batch=32, private=private)
    photos = orl_photos(2 * members, seed=seed, by_person=True)
    inside = photos.only(np.arange(members))
    before = starting_model(config)
    after = copy.deepcopy(before)
    if private:
        private_round(after, inside, config)
    else:
        train_epochs(after, inside, LocalRound(config, epochs=1, seed=seed))
    fell = _losses(before, photos, config) - _losses(after, photos, config)
    return told(fell[:members], fell[members:])


def _head_change(before: Autoencoder, photos: Photos, config: RunConfig) -> Tensor:
    """How a round of one step over all ``photos`` changes the decoder's first matrix."""
    after, head = copy.deepcopy(before), "decoder.head.weight"
    train_epochs(after, photos, LocalRound(config, epochs=1))
    return (before.get_parameter(head) - after.get_parameter(head)).detach()


@torch.no_grad()
def _codes(model: Autoencoder, photos: Photos, config: RunConfig) -> list[tuple[Tensor, Tensor]]:
    """The codes of each photo and of its mirror image: training shows either."""
    seen = geometry_of(config.model.geometry, config.model.image_size).see(
        photos.pixels, photos.marks
    )
    images = to_images(seen.pixels, torch.device("cpu"))
    plain, mirrored = model.code(images).double(), model.code(images.flip(3)).double()
    return list(zip(plain, mirrored, strict=True))


@torch.no_grad()
def _losses(model: Autoencoder, photos: Photos, config: RunConfig) -> Scores:
    """The mean absolute error of each photo, without anything random."""
    found = []
    for rows in np.array_split(photos.rows("train"), -(-len(photos.pixels) // 32)):
        images = load_batch(photos, rows, config, torch.device("cpu")).images
        made = model.decode(model.code(images))
        found.append((made - images).abs().mean(dim=(1, 2, 3)).double().numpy())
    return np.concatenate(found)


def _cosine(a: Tensor, b: Tensor) -> float:
    return abs(float(a @ b / (a.norm() * b.norm())))
