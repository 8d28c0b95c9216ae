"""Crafted weights sent for scoring, to a site with the limits that it has without a file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from client.node import Site
from client.rounds import RoundRequest, evaluate_round
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import FaceMorphError
from facemorph_core.federated import shared_weights
from facemorph_core.models import build_model
from facemorph_core.privacy import SiteLimits
from facemorph_core.shards.shard import IndexRow, write_shard
from simulations.bench.audit.one_photo import private_run
from simulations.bench.audit.photos import extremes


@dataclass(frozen=True, slots=True)
class Asked:
    """How often a site told scores of weights that light one pixel after the other."""

    questions: int
    answered: int
    charged: int


def ask_for_scores(questions: int) -> Asked:
    """Ask under every config that a coordinator could send: with privacy, with scoring, without."""
    private = private_run("ae", "plain", 32, max_epsilon=1e9)
    scored = private.model_dump() | {"privacy": {"noise_multiplier": 1e-6, "scoring": {}}}
    configs = [private, RunConfig.model_validate(scored)]
    configs.append(private.model_copy(update={"privacy": None}))
    model, answered = build_model(private.model), 0
    with tempfile.TemporaryDirectory() as folder:
        site = _site(Path(folder))
        for number in range(questions):
            weights = shared_weights(model)
            weights["decoder.to_pixels.bias"][number % 48] = 1.0
            request = RoundRequest(weights, 1, "0123456789abcdef", 0.0)
            try:
                evaluate_round(request, site, configs[number % len(configs)])
            except FaceMorphError:
                continue
            answered += 1
        return Asked(questions, answered, len(site.ledger.read().entries))


def _site(folder: Path) -> Site:
    photos = extremes(4, 32, seed=0)
    index = [IndexRow(f"p{i}", "val" if i else "train", f"digest {i}") for i in range(4)]
    shard = write_shard(folder / "shard", photos.pixels, photos.marks, index)
    return Site("site", shard, folder / "state", folder / "run", SiteLimits(), folder / "heads")
