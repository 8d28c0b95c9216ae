"""Crafted weights sent for scoring, to a site that allows noised scores and one without limits."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.audit.one_photo import private_run
from benchmarks.audit.photos import extremes
from client.node import Site
from client.rounds import evaluate_round
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import BudgetExhausted, LimitsExceeded
from facemorph_core.learning.federated import shared_weights
from facemorph_core.learning.federated.wire import Request
from facemorph_core.learning.models import build_model
from facemorph_core.learning.privacy import SiteLimits
from facemorph_core.shards.shard import IndexRow, write_shard


@dataclass(frozen=True, slots=True)
class Asked:
    """How often sites told scores of weights that light one pixel after the other.

    What is answered is noised and charged, and ends with the budget.
    """

    questions: int
    answered: int
    charged: int


def ask_for_scores(questions: int) -> Asked:
    """Ask under every config that a coordinator could send: with privacy, with scoring, without."""
    private = private_run("ae", "plain", 32, max_epsilon=1e9)
    configs = [private, private.model_copy(update={"privacy": None})]
    for noise in (1e-6, 2.0):
        scoring = {"noise_multiplier": noise, "people": 1}
        privacy = {"noise_multiplier": 1.0, "max_epsilon": 1e9, "scoring": scoring}
        configs.append(RunConfig.model_validate(private.model_dump() | {"privacy": privacy}))
    model, answered, charged = build_model(private.model), 0, 0
    for limits in (SiteLimits(), SiteLimits(scoring="noised", min_scored_people=2)):
        with tempfile.TemporaryDirectory() as folder:
            site = _site(Path(folder), limits)
            for number in range(questions // 2):
                weights = shared_weights(model)
                weights["decoder.to_pixels.bias"][number % 48] = 1.0
                request = Request("0123456789abcdef", 1)
                with contextlib.suppress(LimitsExceeded, BudgetExhausted):
                    evaluate_round(request, weights, site, configs[number % len(configs)])
                    answered += 1
            charged += len(site.ledger.read().entries)
    return Asked(2 * (questions // 2), answered, charged)


def _site(folder: Path, limits: SiteLimits) -> Site:
    photos = extremes(4, 32, seed=0)
    index = [IndexRow(f"p{i}", "val" if i else "train", f"digest {i}") for i in range(4)]
    shard = write_shard(folder / "shard", photos.pixels, photos.marks, index)
    return Site("site", shard, folder / "state", folder / "run", limits, folder / "heads")
