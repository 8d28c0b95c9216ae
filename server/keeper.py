"""What is kept of every round: checkpoint, scores, picture, one line of figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from facemorph_core.disk.output import reported_output
from facemorph_core.learning.federated import load_shared_weights
from facemorph_core.learning.models import build_model
from server.best import far_below
from server.round import Round
from server.runs import RunDirectory
from server.scoring import PublicFaces
from server.state import ServerState

log = logging.getLogger("flwr")


class RoundKeeper:
    """Writes into the run directory what a round has brought."""

    def __init__(self, run: RunDirectory, faces: PublicFaces) -> None:
        self.run, self.faces = run, faces
        self.model = build_model(run.config.model)

    def keep(self, done: Round, state: ServerState) -> None:
        """Write down a round that left ``state``; number 0 is before the first."""
        released = {name: torch.tensor(value) for name, value in state.released.items()}
        load_shared_weights(self.model, released)
        entry = done.line(self._scores(done.number))
        done.tell()
        self.run.record(entry)
        if done.number > 0:
            self.run.checkpoint(done.number, state.released, state.memory())
            self._warn_if_far_below_the_best(entry)

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
