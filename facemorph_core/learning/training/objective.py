"""Which loss terms a run has, what they weigh, and their values for one batch.

Everything is per image until `total`; a term whose weight is 0 is not computed at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from facemorph_core.config.schema import AEConfig, LossConfig, RunConfig, VAEGANConfig
from facemorph_core.learning.losses import terms as losses
from facemorph_core.learning.losses.identity import IdentityDistance
from facemorph_core.learning.losses.perceptual import VGGPerceptual
from facemorph_core.learning.models import Reconstruction
from facemorph_core.learning.nets.lpips_heads import load_heads
from facemorph_core.learning.training.batches import Batch
from facemorph_core.learning.training.schedule import adversarial_weight, kl_weight

Terms = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class FeatureNets:
    """Frozen nets that compare a made face with the real one; None for a term without weight."""

    perceptual: VGGPerceptual | None = None
    identity: IdentityDistance | None = None


def term_names(config: RunConfig) -> tuple[str, ...]:
    """The terms of this config, always in this order: the keys of its metrics."""
    loss, is_ae = config.loss, isinstance(config.model, AEConfig)
    used = {
        "l1": loss.l1 > 0,
        "squared": loss.squared > 0,
        "perceptual": loss.perceptual > 0,
        "identity": loss.identity > 0,
        "kl": loss.kl > 0 and not is_ae,
        "latent_l2": loss.latent_l2 > 0 and is_ae,
        "adversarial": has_adversary(config),
        "discriminator": has_adversary(config),
    }
    return tuple(name for name, is_used in used.items() if is_used)


def has_adversary(config: RunConfig) -> bool:
    return isinstance(config.model, VAEGANConfig) and config.loss.adversarial > 0


def weights_at(loss: LossConfig, share: float, *, latent_dim: int) -> dict[str, float]:
    """The weight of each term at one moment of the run.

    KL is measured in nats per image and weighed per latent number, hence the division.
    """
    return {
        "l1": loss.l1,
        "squared": loss.squared,
        "perceptual": loss.perceptual,
        "identity": loss.identity,
        "kl": kl_weight(loss, share) / latent_dim,
        "latent_l2": loss.latent_l2,
        "adversarial": adversarial_weight(loss, share),
    }


def reconstruction_terms(
    made: Reconstruction,
    seen: Batch,
    config: RunConfig,
    *,
    nets: FeatureNets,
    crops: torch.Generator,
) -> Terms:
    """Every term that needs no discriminator, one number per image."""
    names = term_names(config)
    terms: Terms = {}
    if "l1" in names:
        terms["l1"] = losses.l1(made.images, seen.images, seen.weights)
    if "squared" in names:
        terms["squared"] = losses.squared(made.images, seen.images, seen.weights)
    if nets.perceptual is not None:
        terms["perceptual"] = nets.perceptual(made.images, seen.images, crops)
    if nets.identity is not None and seen.places is not None:
        terms["identity"] = _of_the_first(nets.identity, made.images, seen.images, seen.places)
    if "kl" in names and made.posterior is not None:
        terms["kl"] = losses.kl(made.posterior)
    if "latent_l2" in names:
        terms["latent_l2"] = losses.latent_l2(made.code)
    return terms


def _of_the_first(
    net: IdentityDistance,
    made: Float[Tensor, "b 3 s s"],
    real: Float[Tensor, "b 3 s s"],
    places: Float[Tensor, "k 112 112 2"],
) -> Float[Tensor, " b"]:
    """The distance of the images that are looked at, 0 for the others, with the mean of all."""
    count, looked_at = len(made), len(places)
    found = net(made[:looked_at], real[:looked_at], places)
    return torch.cat([found * (count / looked_at), found.new_zeros(count - looked_at)])


def total(terms: Terms, weights: dict[str, float]) -> Float[Tensor, " b"]:
    """The weighted sum of each image's terms."""
    weighted = [weights[name] * term for name, term in terms.items()]
    return torch.stack(weighted).sum(dim=0)


def load_feature_nets(config: RunConfig, device: torch.device) -> FeatureNets:
    """The nets whose terms weigh something, from the verified cache.

    Raises:
        WeightsUnavailable: with the command that fetches them.
    """
    from facemorph_core.learning.weights import find

    loss, perceptual, identity = config.loss, None, None
    if loss.perceptual:
        heads = load_heads("vgg") if loss.perceptual_distance == "lpips" else ()
        perceptual = VGGPerceptual(find("vgg16"), loss.perceptual_crop, heads).to(device)
    if loss.identity:
        identity = IdentityDistance(find("mobilefacenet")).to(device)
    return FeatureNets(perceptual, identity)
