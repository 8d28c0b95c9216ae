r"""How much one reply may do: what keeps a site that lies, or is broken, from deciding a round.

A reply that no site could send in earnest is set aside by name. What is only out of line with the
others of its round counts as much as the bound allows, for it may be a site with more photos:

    images   at most max_count_ratio times the median, the lower one of an even number: with two
             sites the smaller speaks
    norm     at most max_norm_ratio times the usual one: the median of the round's updates and of
             what was usual in the round before, once three numbers are known

All of a round is judged together at its end, so that nothing hangs on who was first. More than half
of the sites must be honest: nobody can tell a lie from the truth by the median otherwise.

References:
    | Can You Really Backdoor Federated Learning? (Sun et al., 2019): norms that are bounded
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_high, median_low
from typing import TypeVar

import numpy as np

from facemorph_core.config.schema import FederationConfig
from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.codec import Arrays

Site = TypeVar("Site")
_ENOUGH = 3
"""Norms that are compared at least: of two nobody knows which one is out of line."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a site's update would do to the mean."""

    images: int
    norm: float


@dataclass(frozen=True, slots=True)
class Share:
    """What of a claim counts."""

    images: int
    scale: float
    """Factor of the update, at most 1."""

    def beside(self, claim: Claim) -> str:
        """In words how much less this is than ``claim``; empty if it is all of it."""
        less = []
        if self.images < claim.images:
            less.append(f"{claim.images} images count as {self.images}")
        if self.scale < 1:
            less.append(f"norm {claim.norm:.3g} scaled to {claim.norm * self.scale:.3g}")
        return ", ".join(less)


class Bounds:
    """The bounds of one run."""

    def __init__(self, config: FederationConfig) -> None:
        self.config = config
        self.usual: float | None = None
        """The usual norm of the last round that was merged."""

    def check_images(self, images: int) -> None:
        """Raise FederationError for a count that no site has."""
        if images > self.config.max_images:
            raise FederationError(
                f"{images} images are more than federation.max_images, {self.config.max_images}"
            )

    def check_norm(self, norm: float, weights: Arrays) -> None:
        """Raise FederationError for an update that would bury the ``weights`` it changes."""
        limit = self.config.max_norm_ratio * max(norm_of(weights), 1.0)
        if not norm <= limit:
            raise FederationError(
                f"the update's norm is {norm:.3g}, above {limit:.3g}: "
                f"{self.config.max_norm_ratio:g} times that of the weights it changes"
            )

    def counted(self, images: Mapping[Site, int]) -> dict[Site, int]:
        """As how many images each site counts; empty without any."""
        if not images:
            return {}
        most = math.floor(self.config.max_count_ratio * median_low(images.values()))
        return {site: min(count, most) for site, count in images.items()}

    def shares(self, claims: Mapping[Site, Claim]) -> dict[Site, Share]:
        """What of each claim of a round counts."""
        images = self.counted({site: claim.images for site, claim in claims.items()})
        usual, known = self._usual(claims)
        most = self.config.max_norm_ratio * usual if known >= _ENOUGH else math.inf
        return {
            site: Share(images[site], min(1.0, most / claim.norm) if claim.norm else 1.0)
            for site, claim in claims.items()
        }

    def learn(self, claims: Mapping[Site, Claim]) -> None:
        """The round of these claims was merged: its usual norm is known from now on."""
        self.usual = float(np.float32(self._usual(claims)[0]))  # as a checkpoint keeps it

    def _usual(self, claims: Mapping[Site, Claim]) -> tuple[float, int]:
        """The usual norm, and of how many it is the median."""
        norms = [claim.norm for claim in claims.values()]
        if self.usual is not None:
            norms.append(self.usual)
        return (median_high(norms) if norms else 0.0), len(norms)


def norm_of(arrays: Arrays) -> float:
    """The Euclidean norm of all numbers together."""
    return math.sqrt(
        sum(float(np.square(each, dtype=np.float64).sum()) for each in arrays.values())
    )
