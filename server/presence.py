"""Which sites are there: waited for, called by name, and enough of them for a round or not."""

from __future__ import annotations

import logging
import time

from flwr.serverapp import Grid

from facemorph_core.config.schema import FederationConfig
from server.exchange import Clock
from server.names import SiteNames

log = logging.getLogger("flwr")
_POLL_SECONDS, _SETTLED_SECONDS, _TELL_SECONDS = 0.25, 10.0, 30.0


class Presence:
    """The sites of a run.

    Those of a simulation (``simulated``) are parts of one machine: all are there within seconds and
    no more will come, and the quorum is capped by them.
    """

    def __init__(
        self, grid: Grid, config: FederationConfig, *, simulated: bool, clock: Clock = time
    ) -> None:
        self.grid, self.config, self.simulated, self.clock = grid, config, simulated, clock
        self.names = SiteNames()
        self._all_joined = False

    def quorum(self, present: int) -> int:
        """Usable replies that make a round, with so many sites present."""
        if not self.simulated:
            return self.config.quorum
        return max(1, self.config.strategy.least_replies, min(self.config.quorum, present))

    def wait(self) -> list[int]:
        """The nodes that are there, once there are enough, no more will come, or time is up."""
        began = settled = told = self.clock.monotonic()
        nodes: list[int] = []
        while True:
            seen = list(self.grid.get_nodes())
            self.names.see(seen)
            now = self.clock.monotonic()
            settled = now if len(seen) != len(nodes) else settled
            nodes = [node.node_id for node in seen]
            if self.simulated:
                self._all_joined |= len(nodes) >= self.config.sites
                self._all_joined |= bool(nodes) and now - settled >= _SETTLED_SECONDS
            if self._all_joined or (not self.simulated and len(nodes) >= self.config.quorum):
                return nodes
            if now - began > self.config.join_deadline:
                return nodes
            if now - told >= _TELL_SECONDS:
                told = now
                there = ", ".join(sorted(map(self.names.of, nodes))) or "nobody"
                log.info("waiting for %d sites; there: %s", self.config.quorum, there)
            self.clock.sleep(_POLL_SECONDS)
