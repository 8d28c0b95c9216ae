"""The words of the messages between the server and its sites, once for both ends.

A question is of one KIND and brings two records: the global weights by their names (WEIGHTS), and
what `Request` and `Handshake` say (CONFIG). An answer brings figures (FIGURES), what the site calls
itself (SITE), and after training its update as the codec makes it (WEIGHTS). A site that answers
nothing sends an error instead, with the code of a `Refusal`.

Flower has some of these words of its own: its strategies ask for EXAMPLES.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from facemorph_core.errors import FederationError

TRAIN, EVALUATE = "train", "evaluate"
"""Kinds of question, as Flower routes them."""
WEIGHTS, FIGURES, SITE, CONFIG = "arrays", "metrics", "site", "config"
"""Names of records."""
NAME = "name"
"""In SITE: what the site calls itself."""
EXAMPLES = "num-examples"
"""In FIGURES: the count of images that they speak for."""
EPSILON, DELTA = "epsilon", "delta"
"""In FIGURES under differential privacy: what was spent, as `privacy.Spent` writes it."""
RUN_ID, ROUND, PROXIMAL_MU = "run-id", "server-round", "proximal-mu"
"""In CONFIG, beside the fields of the handshake."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a question says beside the weights and the handshake."""

    run_id: str
    """Names the run's folder at the site: hexadecimal digits only."""
    round: int
    """1 is the first."""
    proximal_mu: float = 0.0
    """Weight of FedProx's term; 0 without."""

    def as_record(self) -> dict[str, str | int | float]:
        """The form in which it travels."""
        term = {PROXIMAL_MU: self.proximal_mu} if self.proximal_mu else {}
        return {RUN_ID: self.run_id, ROUND: self.round, **term}

    @classmethod
    def parse(cls, sent: Mapping[str, object]) -> Request:
        """Read what the server sent.

        Raises:
            FederationError: the round is no number, or the run's name could be a path.
        """
        run_id, number, mu = sent.get(RUN_ID), sent.get(ROUND), sent.get(PROXIMAL_MU)
        if not (isinstance(run_id, str) and re.fullmatch(r"[0-9a-f]{8,64}", run_id)):
            raise FederationError(f"the server sent an unusable run id ({run_id!r})")
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise FederationError(f"the server sent an unusable round number ({number!r})")
        return cls(run_id, number, float(mu) if isinstance(mu, int | float) else 0.0)
