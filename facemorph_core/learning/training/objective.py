"""Which loss terms a run has, what they weigh, and their values for one batch.

Everything is per image until `total`; a term whose weight is 0 is not computed at all.

>>> from facemorph_core.config.schema import LossConfig
>>> weights_at(LossConfig(l1=0.5, kl=2.0, kl_warmup=0.0), 1.0, latent_dim=4)["kl"]
0.5
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from facemorph_core.config.schema import LossConfig, RunConfig, VAEGANConfig
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


def has_adversary(config: RunConfig) -> bool:
    return isinstance(config.model, VAEGANConfig) and config.loss.adversarial > 0


@dataclass(frozen=True, slots=True)
class Pass:
    """One training pass, as a term sees it."""

    made: Reconstruction
    seen: Batch
    nets: FeatureNets
    crops: torch.Generator
    """For whatever of the term is random."""


Term = Callable[[Pass], Tensor | None]
"""One number per image, (B,); None where this pass has nothing that the term could be of."""


def _perceptual(at: Pass) -> Tensor | None:
    if at.nets.perceptual is None:
        return None
    return at.nets.perceptual(at.made.images, at.seen.images, at.crops)


def _identity(at: Pass) -> Tensor | None:
    if at.nets.identity is None or at.seen.places is None:
        return None
    return _of_the_first(at.nets.identity, at.made.images, at.seen.images, at.seen.places)


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


TERMS: dict[str, Term] = {
    "l1": lambda at: losses.l1(at.made.images, at.seen.images, at.seen.weights),
    "squared": lambda at: losses.squared(at.made.images, at.seen.images, at.seen.weights),
    "perceptual": _perceptual,
    "identity": _identity,
    "kl": lambda at: None if at.made.posterior is None else losses.kl(at.made.posterior),
    "latent_l2": lambda at: losses.latent_l2(at.made.code) if at.made.posterior is None else None,
}
"""Every term that needs no discriminator, under the key of its weight in `LossConfig`.

A term is computed where its weight is above 0. A loss of one's own is a line here and a key there.
"""


def weight_of(name: str, loss: LossConfig) -> float:
    """What a term weighs in a run; a config that has no such key, one of before it, gives it 0."""
    return float(getattr(loss, name, 0.0))


def weights_at(loss: LossConfig, share: float, *, latent_dim: int) -> dict[str, float]:
    """The weight of each term at one moment of the run.

    KL is measured in nats per image and weighed per latent number, hence the division.
    """
    return {name: weight_of(name, loss) for name in TERMS} | {
        "kl": kl_weight(loss, share) / latent_dim,
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
    """The values of `TERMS` that weigh something, one number per image, in that order."""
    shown = Pass(made, seen, nets, crops)
    values = {name: term(shown) for name, term in TERMS.items() if weight_of(name, config.loss) > 0}
    return {name: value for name, value in values.items() if value is not None}


def total(terms: Terms, weights: dict[str, float]) -> Float[Tensor, " b"]:
    """The weighted sum of each image's terms.

    Examples:
        >>> terms = {"l1": torch.tensor([0.5, 1.0]), "kl": torch.tensor([30.0, 10.0])}
        >>> total(terms, {"l1": 2.0, "kl": 0.1})
        tensor([4., 3.])
    """
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
