"""What happened in one round: nothing of it is there in the next."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from facemorph_core.learning.federated import RoundReport, ScoreSums
from facemorph_core.learning.privacy import Spent

log = logging.getLogger("flwr")


class SetAside(NamedTuple):
    """A site whose answer did not count in a round, or less than it asked for, and why."""

    site: str
    reason: str


@dataclass(slots=True)
class Round:
    """One round."""

    number: int
    """1 is the first; 0 is what was there before it."""
    present: int = 0
    """Sites that were there."""
    quorum: int = 1
    """Usable replies that it needs."""
    asked: Sequence[int] = ()
    """Nodes that were asked to train."""
    used: Sequence[str] = ()
    """Sites whose updates are in the weights; without a merge, those that could have been."""
    set_aside: list[SetAside] = field(default_factory=list)
    capped: list[SetAside] = field(default_factory=list)
    """Sites that were used and counted less than they asked for."""
    merged: bool = False
    training: RoundReport | None = None
    sites_scores: ScoreSums | None = None
    spent: Spent | None = None
    """What holds for every site that told, whether its reply was used or not."""
    bytes_down: int = 0
    """Bytes of weights sent to all sites for training."""
    bytes_up: int = 0
    """Bytes of weights that left the sites and were used."""
    seconds: float = 0.0

    def blame(self, site: str, reason: str) -> None:
        """Set a site's answer aside."""
        self.set_aside.append(SetAside(site, reason))

    def note_spent(self, told: Spent | None) -> None:
        """Take in what a site told of its epsilon, if it did."""
        if told is not None:
            self.spent = told if self.spent is None else told.beside(self.spent)

    def line(self, scores: Mapping[str, float]) -> dict[str, Any]:
        """The round as one object of ``metrics.jsonl``, beside the server's own scores."""
        if self.number == 0:
            return {"round": 0, "server": scores}
        training, sites = self.training, self.sites_scores
        spent = self.spent.as_record() if self.spent else {}
        return {
            "round": self.number,
            "merged": self.merged,
            "present": self.present,
            "asked": len(self.asked),
            "used": list(self.used),
            "set_aside": [each._asdict() for each in self.set_aside],
            "capped": [each._asdict() for each in self.capped],
            "examples": training.examples if training else 0,
            "training": (dict(training.figures) if training else {}) | spent,
            "sites": {"faces": sites.examples, **sites.means()} if sites else {},
            "server": scores,
            "bytes_down": self.bytes_down,
            "bytes_up": self.bytes_up,
            "seconds": round(self.seconds, 3),
        }

    def tell(self) -> None:
        """Log it; before the first there is nothing to say."""
        if self.number == 0:
            return
        for site, reason in self.set_aside:
            log.warning("round %d: %s set aside: %s", self.number, site, reason)
        for site, reason in self.capped:
            log.warning("round %d: %s counts less: %s", self.number, site, reason)
        if self.training is None:
            log.warning("round %d brought nothing: the weights stay as they were", self.number)
            return
        scores = self.sites_scores.means() if self.sites_scores else {}
        figures = {**self.training.figures, **scores}
        told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        log.info("round %d: %d of %d sites, %s", self.number, len(self.used), len(self.asked), told)
