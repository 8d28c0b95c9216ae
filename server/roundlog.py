"""What happened in one round, as the run directory keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from facemorph_core.learning.federated import RoundReport, ScoreSums
from facemorph_core.learning.privacy import Spent


@dataclass(frozen=True, slots=True)
class SetAside:
    """A site whose answer did not count in a round, or less than it asked for, and why."""

    site: str
    reason: str


@dataclass(slots=True)
class RoundLog:
    """One round."""

    round: int
    present: int = 0
    """Sites that were there."""
    asked: int = 0
    """Sites that were asked to train."""
    used: tuple[str, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    capped: tuple[SetAside, ...] = ()
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
