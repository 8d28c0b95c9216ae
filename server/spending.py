"""What sites under differential privacy tell of their epsilon: kept before anything is made of it.

Whatever becomes of a reply, of its round or of this process, a site has spent what it has spent.
The file and what may be claimed from it: `facemorph_core.learning.privacy.told`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Message

from facemorph_core.config import RunConfig
from facemorph_core.errors import FederationError, OutputError
from facemorph_core.learning.federated import Refusal
from facemorph_core.learning.federated.refusal import BEFORE_A_CHARGE
from facemorph_core.learning.privacy import Spent, read_told
from facemorph_core.learning.privacy.told import Of, note, note_anew
from server.replies import figures_of

log = logging.getLogger("flwr")
_NO_MORE_SPENT = BEFORE_A_CHARGE - {Refusal.BUDGET_EXHAUSTED}
"""A budget that is gone may have gone to another run since the site last told."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What the sites of the run in the directory ``run`` were asked, and told."""

    run: Path
    most: Spent
    """No honest site tells more: it refuses a round that would pass it, at this delta or less."""

    @classmethod
    def of(cls, run: Path, config: RunConfig, *, simulated: bool) -> Spending | None:
        """That of a run that starts or goes on; None without differential privacy.

        Raises:
            OutputError: it cannot be written.
        """
        if config.privacy is None:
            return None
        if simulated:
            note_anew(run, sites=config.federation.sites)
        return cls(run, Spent(config.privacy.max_epsilon, config.privacy.delta))

    def ask(self, number: int, of: Of, sites: Mapping[int, str]) -> None:
        """Nodes are about to be asked: from here on each may spend."""
        for node, site in sites.items():
            note(self.run, number, of, node=node, site=site, event="asked")

    def take(self, number: int, of: Of, node: int, site: str, reply: Message) -> Spent | None:
        """Keep what a reply tells; None is an error, which tells nothing.

        Raises:
            FederationError: it brings something and does not say what that cost, or what cannot
                be. What the site has spent is then not known.
        """
        if reply.has_error():
            if reply.error.code in _NO_MORE_SPENT:
                note(self.run, number, of, node=node, site=site, event="refused")
            return None
        spent = Spent.parse(figures_of(reply))
        if spent.epsilon > self.most.epsilon or spent.delta > self.most.delta:
            raise FederationError(
                f"the site tells epsilon {spent.epsilon!r} at delta {spent.delta!r}, more than "
                f"privacy allows (max_epsilon {self.most.epsilon!r}, delta {self.most.delta!r})"
            )
        note(self.run, number, of, node=node, site=site, event=spent)
        return spent


def log_told(run: Path) -> None:
    """Say what the run may claim; a file that cannot be read hides no other error."""
    try:
        log.info("the largest of the sites: epsilon %s", read_told(run).in_words())
    except OutputError as error:
        log.warning("the sites' epsilon is not known: %s", error)
