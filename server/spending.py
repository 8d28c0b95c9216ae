"""What sites under differential privacy tell of their epsilon: kept before anything is made of it.

Whatever becomes of a reply, of its round or of this process, a site has spent what it has spent.
The file and what may be claimed from it: `facemorph_core.privacy.told`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Message

from facemorph_core.federated.refusal import BEFORE_A_CHARGE
from facemorph_core.privacy import Spent
from facemorph_core.privacy.told import Of, note
from server.replies import figures_of


@dataclass(frozen=True, slots=True)
class Spending:
    """What the sites of the run in the directory ``run`` were asked, and told."""

    run: Path

    def ask(self, number: int, of: Of, sites: Mapping[int, str]) -> None:
        """Nodes are about to be asked: from here on each may spend."""
        for node, site in sites.items():
            note(self.run, number, of, node=node, site=site, event="asked")

    def take(self, number: int, of: Of, node: int, site: str, reply: Message) -> Spent | None:
        """Keep what a reply tells; None is an error, which tells nothing.

        Raises:
            FederationError: it brings something and does not say what that cost.
        """
        if reply.has_error():
            if reply.error.code in BEFORE_A_CHARGE:
                note(self.run, number, of, node=node, site=site, event="refused")
            return None
        spent = Spent.parse(figures_of(reply))
        note(self.run, number, of, node=node, site=site, event=spent)
        return spent
