"""Two shards that differ in one photo, and somebody who guesses which one was trained on.

The guesser knows the config, the seed, the weights before and after, and both shards; not the
site's secret. What real rounds of `train_privately` let them guess is held against the epsilon
that the ledger claims; so is, as a check of the attack itself, a round with a twentieth of the
noise that it claims.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.audit.one_photo import awake_model, clipped_sum, private_round, private_run
from benchmarks.audit.photos import Photos, extremes
from benchmarks.audit.scores import auc, least_epsilon
from facemorph_core.config.schema import RunConfig
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.privacy import GaussianSteps, epsilon
from facemorph_core.learning.privacy.mechanism import ClippedSum
from facemorph_core.learning.training.private import private_config

NOISE, PHOTOS, SIZE = 4.0, 8, 32
BOUND = 0.01  # so small that every photo uses all of it


@dataclass(frozen=True, slots=True)
class Guess:
    """How well the guesser did."""

    mechanism: str
    claimed: float
    """Epsilon by the accountant for the noise that was claimed."""
    least: float
    """Epsilon that the guesses prove."""
    auc: float
    trials: int
    """Of each shard."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What is guessed at."""

    name: str
    kind: str
    drawn: bool
    """Whether photos are changed at random; nothing hides a photo better or worse."""
    noise: float = 1.0
    """Share of the noise that is really added."""

    @property
    def config(self) -> RunConfig:
        """One step over all photos."""
        return private_run(
            self.kind,
            "plain",
            SIZE,
            drawn=self.drawn,
            noise_multiplier=NOISE,
            max_grad_norm=BOUND,
            max_epsilon=1e9,
        )


DRAWN = Mechanism("photos changed at random", "vae", True)
STILL = Mechanism("photos as they are", "ae", False)
CHEATED = Mechanism("with a twentieth of the noise", "ae", False, noise=0.05)


def distinguish(
    mechanism: Mechanism, trials: int, *, watch: Callable[[str], None] = lambda _: None
) -> Guess:
    """The guesser against ``trials`` rounds on each of two shards."""
    config, photos = mechanism.config, extremes(PHOTOS, SIZE, seed=0)
    shards, model = (photos, photos.without(0)), awake_model(config)
    towards, delta = _difference(config, model, *shards), private_config(config).delta
    with _noise_of(mechanism.noise):
        guesses = [
            np.array([_round(config, model, shard, towards) for _ in range(trials)])
            for shard in shards
        ]
    claimed = epsilon([GaussianSteps(NOISE, 1.0, 1)], delta)
    least, area = least_epsilon(*guesses, delta=delta), auc(*guesses)
    watch(f"told apart, {mechanism.name}: AUC {area:.2f}")
    return Guess(mechanism.name, claimed, least, area, trials)


def _difference(config: RunConfig, model: Autoencoder, one: Photos, other: Photos) -> Tensor:
    """Where the one photo pulls the sum, as far as anybody without the secret can know."""
    keys = [bytes([number] * 32) for number in range(4)]
    sums = [clipped_sum(config, model, s, key) for key in keys for s in (one, other)]
    return (sum(sums[::2]) - sum(sums[1::2])) / len(keys)  # type: ignore[return-value]


def _round(config: RunConfig, model: Autoencoder, shard: Photos, towards: Tensor) -> float:
    """A round's step as the guesser sees it: how far it went the way of the photo."""
    trained = copy.deepcopy(model)
    private_round(trained, shard, config)
    pairs = zip(model.parameters(), trained.parameters(), strict=True)
    step = torch.cat([(before - after).detach().flatten() for before, after in pairs])
    return float(step.double() @ towards / (step.norm() * towards.norm()))


def _noise_of(share: float) -> AbstractContextManager[object]:
    """Private training whose noise is ``share`` of what it says."""
    real = ClippedSum.noised

    def noised(summed: ClippedSum, noise_multiplier: float, *args: Any, **kwargs: Any) -> Any:
        return real(summed, share * noise_multiplier, *args, **kwargs)

    return mock.patch.object(ClippedSum, "noised", noised)
