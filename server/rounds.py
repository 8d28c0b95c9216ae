"""What is kept of every round: checkpoint, scores, picture, one line of figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flwr.app import ArrayRecord, MetricRecord

from facemorph_core.disk.output import reported_output
from facemorph_core.learning.federated import load_shared_weights
from facemorph_core.learning.models import build_model
from server.best import far_below
from server.roundlog import RoundLog
from server.runs import RunDirectory
from server.scoring import PublicFaces
from server.strategy import GuardedStrategy

log = logging.getLogger("flwr")


class RoundKeeper:
    """Writes into the run directory what a round has brought."""

    def __init__(self, run: RunDirectory, strategy: GuardedStrategy, faces: PublicFaces) -> None:
        self.run, self.strategy, self.faces = run, strategy, faces
        self.model = build_model(run.config.model)
        self.done_before = run.state.round

    def after_round(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Called by Flower with the merged weights; 0 is before the first round."""
        if server_round == 0 and self.done_before > 0:
            return None  # this state is on the disk already
        number = self.done_before + server_round
        released = self.strategy.released(arrays).to_torch_state_dict()
        load_shared_weights(self.model, released)
        scores = self._scores(number)
        if number == 0:
            entry: dict[str, Any] = {"round": 0, "server": scores}
        else:
            entry = line(self.strategy.current, scores)
            _tell(self.strategy.current)
        self.run.record(entry)
        if number > 0:
            self.run.checkpoint(
                number,
                {name: value.numpy() for name, value in released.items()},
                self.strategy.memory(arrays),
            )
            self._warn_if_far_below_the_best(entry)
        return MetricRecord({**scores}) if scores else None

    def _scores(self, number: int) -> dict[str, float]:
        wanted, rounds = self.run.config.evaluation, self.run.config.federation.rounds
        if number % wanted.every and number != rounds:
            return {}
        picture = self.faces.sample_grid(self.model, self.run.config)
        if picture is not None:
            path = self.run.path / "samples" / f"round-{number:04d}.png"
            with reported_output(path):
                picture.save(path)
        return self.faces.scores(self.model, self.run.config)

    def _warn_if_far_below_the_best(self, entry: Mapping[str, Any]) -> None:
        best = self.run.best
        here = far_below(entry, best) if best else None
        if best and here:
            log.warning(
                "round %d is far below the best, round %d: %s against %s; "
                "to go back to it, end the run and: python -m server rollback %s --to %d",
                *(here.round, best.round, here, best, self.run.path, best.round),
            )


def line(round_log: RoundLog, scores: dict[str, float]) -> dict[str, Any]:
    """A round as one object of ``metrics.jsonl``."""
    training, sites = round_log.training, round_log.sites_scores
    spent = round_log.spent.as_record() if round_log.spent else {}
    return {
        "round": round_log.round,
        "merged": round_log.merged,
        "present": round_log.present,
        "asked": round_log.asked,
        "used": list(round_log.used),
        "set_aside": [{"site": item.site, "reason": item.reason} for item in round_log.set_aside],
        "capped": [{"site": item.site, "reason": item.reason} for item in round_log.capped],
        "examples": training.examples if training else 0,
        "training": (dict(training.figures) if training else {}) | spent,
        "sites": {"faces": sites.examples, **sites.means()} if sites else {},
        "server": scores,
        "bytes_down": round_log.bytes_down,
        "bytes_up": round_log.bytes_up,
        "seconds": round(round_log.seconds, 3),
    }


def _tell(round_log: RoundLog) -> None:
    for item in round_log.set_aside:
        log.warning("round %d: %s set aside: %s", round_log.round, item.site, item.reason)
    for item in round_log.capped:
        log.warning("round %d: %s counts less: %s", round_log.round, item.site, item.reason)
    if not round_log.merged:
        log.warning("round %d brought nothing: the weights stay as they were", round_log.round)
