r"""Scores of a model on the photos kept aside, as a site under differential privacy may tell them.

Whoever chooses the weights that are scored can ask anything of the photos. So each photo's scores
are brought to [0, 1], cut off there, summed, and noised like a gradient:

.. math:: \tilde s = \sum_i \mathrm{cut}(s_i) + \sigma \sqrt{k}\, N(0, I)

for k scores, as one photo moves the sum by at most the root of k. The unit is one photo, the
relation add/remove, the number of photos public; the release is charged before a photo is read.
"""

from __future__ import annotations

import math

import numpy as np

from facemorph_core.config.schema import RunConfig
from facemorph_core.learning.models import Autoencoder
from facemorph_core.learning.privacy import GaussianSteps, SiteLedger, SiteLimits, Spent
from facemorph_core.learning.privacy.mechanism import poisson_batch
from facemorph_core.learning.privacy.photos import distinct
from facemorph_core.learning.privacy.secret import Secret
from facemorph_core.learning.training.compute import choose_compute
from facemorph_core.learning.training.evaluate import face_scores
from facemorph_core.learning.training.private import PrivateFaces, private_config
from facemorph_core.shards.shard import check_size

RANGES = {"psnr": (10.0, 40.0), "ssim": (0.0, 1.0)}
"""What is told, and where it is cut off: dB for "psnr"."""


def score_privately(
    model: Autoencoder,
    shard: PrivateFaces,
    config: RunConfig,
    *,
    ledger: SiteLedger,
    limits: SiteLimits,
    secret: Secret | None = None,
) -> tuple[dict[str, float], Spent]:
    """How many "val" photos there are with noised sums over them, and what these have spent.

    The first is {"examples", "psnr", "ssim"}. With more photos than ``evaluation.max_faces`` so
    many are drawn on average, each by itself.

    Raises:
        LimitsExceeded, DeltaTooLarge, BudgetExhausted: before a photo was read; nothing is charged.
        LedgerError: the charge could not be written.
    """
    rows, photos = distinct(shard, shard.rows("val"))
    rate = min(1.0, config.evaluation.max_faces / len(rows))
    people = len({shard.people[row] for row in rows.tolist()})
    limits.check_scoring(config, ledger, people=min(people, int(rate * len(rows))))
    check_size(shard.size, model.image_size)
    choose_compute(config.training)  # or why there is none here, before it costs anything
    privacy = private_config(config)
    scoring = privacy.scoring
    assert scoring is not None, "refused by the limits"
    event = GaussianSteps(scoring.noise_multiplier, rate, 1, unit="photo")
    delta = limits.delta(privacy.delta, event.unit, count=len(rows))
    limit = limits.epsilon(privacy.max_epsilon)
    spent = ledger.charge(photos, event, delta=delta, limit=limit)
    secret = secret or Secret()
    drawn = poisson_batch(rows, rate, secret, step=0)
    scores = face_scores(model, shard, drawn, config, at_once=1)  # see `training.private`
    noise = secret.normal((len(RANGES),), "noise").numpy()
    noise *= scoring.noise_multiplier * math.sqrt(len(RANGES))
    told = {"examples": float(len(rows))}
    for (name, (low, high)), added in zip(RANGES.items(), noise, strict=True):
        between = np.nan_to_num((scores[name] - low) / (high - low), nan=0.0).clip(0, 1)
        mean = (between.sum() + added) / (rate * len(rows))
        told[name] = float(len(rows) * (low + (high - low) * mean))
    return told, spent
