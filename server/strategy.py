"""How a round is run: one of Flower's strategies inside a guard.

Flower's strategy does the arithmetic. The guard around it samples the sites, waits no longer
than a deadline, sets a bad reply aside by name instead of ending the run, demands a quorum of
good ones, and counts the rounds on from where an interrupted run stopped.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import FedAvg, Strategy
from numpy.typing import NDArray

from facemorph_core.config.schema import FederationConfig
from facemorph_core.errors import FederationError
from facemorph_core.federated import (
    RoundReport,
    ScoreSums,
    merge_reports,
    merge_scores,
    weights_problem,
)
from facemorph_core.federated.update import Signature
from server.replies import (
    arrays_of,
    checked_scores,
    checked_training,
    counts_only,
    site_name,
    size_of,
    weights_of,
)

_POLL_SECONDS, _SETTLED_SECONDS = 0.25, 1.5


@dataclass(frozen=True, slots=True)
class SetAside:
    """A site whose answer did not count in a round, and why."""

    site: str
    reason: str


@dataclass(slots=True)
class RoundLog:
    """What happened in one round, as the run directory keeps it."""

    round: int
    present: int = 0
    """Sites that were there."""
    asked: int = 0
    """Sites that were asked to train."""
    used: tuple[str, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    merged: bool = False
    training: RoundReport | None = None
    sites_scores: ScoreSums | None = None
    bytes_down: int = 0
    """Bytes of weights sent to all sites for training."""
    bytes_up: int = 0
    """Bytes of weights that left the sites and were used."""
    seconds: float = 0.0


@dataclass
class GuardedStrategy(Strategy):
    """Quorum, deadline and quarantine around ``rule``."""

    rule: FedAvg
    config: FederationConfig
    expected: Signature
    """Names and shapes that a site's weights must have."""
    simulated: bool
    """All sites are there within seconds and no more will come: the quorum is capped by them."""
    first_round: int = 1
    """Number of the next round; above 1 for a run that goes on."""
    rng: random.Random = field(default_factory=random.Random)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    current: RoundLog = field(default_factory=lambda: RoundLog(0), init=False)

    def __post_init__(self) -> None:
        self._names: dict[int, str] = {}
        self._asked: list[int] = []
        self._quorum, self._failed_in_a_row = 1, 0
        self._all_joined, self._started = False, 0.0

    # --- training ----------------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask a sample of the sites to train."""
        self._started = self.clock()
        nodes = self._wait_for_sites(grid)
        self._quorum = min(self.config.quorum, len(nodes))
        wanted = max(self._quorum, round(self.config.fraction * len(nodes)))
        self._asked = self.rng.sample(sorted(nodes), wanted)
        self.current = RoundLog(
            self._number(server_round),
            present=len(nodes),
            asked=wanted,
            bytes_down=wanted * size_of(arrays),
        )
        return self.rule.configure_train(self.current.round, arrays, config, _only(self._asked))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Merge the good replies; None keeps the weights of the round before."""
        good: list[Message] = []
        reports: list[RoundReport] = []
        for reply in self._named(replies):
            try:
                reports.append(checked_training(reply, self.expected))
                good.append(reply)
            except FederationError as error:
                self._set_aside(self._name(reply.metadata.src_node_id), str(error))
        self.current.used = tuple(self._name(reply.metadata.src_node_id) for reply in good)
        self.current.bytes_up = sum(size_of(weights_of(reply)) for reply in good)
        merged = self._merged(good, reports)
        self.current.merged = merged is not None
        self.current.seconds = self.clock() - self._started
        if merged is None:
            self._count_failure(len(good))
            return None, None
        self._failed_in_a_row = 0
        self.current.training = merge_reports(reports)
        return merged, MetricRecord({**self.current.training.as_record()})

    def _merged(self, good: list[Message], reports: list[RoundReport]) -> ArrayRecord | None:
        if len(good) < self._quorum:
            return None
        for reply, report in zip(good, reports, strict=True):
            counts_only(reply, report)
        try:
            arrays, _ = self.rule.aggregate_train(self.current.round, good)
        except AggregationError as error:
            self._set_aside("the server", f"the rule failed: {error}")
            return None
        if arrays is None:
            return None
        # Flower's adaptive rules compute in float64.
        weights = {name: value.astype(np.float32) for name, value in arrays_of(arrays).items()}
        problem = weights_problem(weights, self.expected)
        if problem is not None:
            self._set_aside("the server", f"the merged weights: {problem}")
            return None
        return ArrayRecord({name: Array(value) for name, value in weights.items()})

    def _count_failure(self, usable: int) -> None:
        self._failed_in_a_row += 1
        # A run whose every round failed has no result, however short it is.
        if self._failed_in_a_row < min(self.config.max_failed_rounds, self.config.rounds):
            return
        reasons = "; ".join(f"{item.site}: {item.reason}" for item in self.current.set_aside)
        raise FederationError(
            f"round {self.current.round}: {usable} usable replies of {self._quorum} needed, "
            f"{self._failed_in_a_row} rounds in a row without a result "
            f"({reasons or 'nobody was asked'})",
            hint="mend the sites or lower federation.quorum, then start again: "
            "the run goes on from its last checkpoint",
        )

    # --- evaluation --------------------------------------------------------------------------

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the sites of this round to score the merged model, if scores are due."""
        number, every = self._number(server_round), self.config.evaluate_every
        due = every > 0 and (number % every == 0 or number == self.config.rounds)
        present = set(grid.get_node_ids())
        self._asked = [node for node in self._asked if node in present]
        if not (due and self.current.merged and self._asked):
            self._asked = []
            return []
        return self.rule.configure_evaluate(number, arrays, config, _only(self._asked))

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Add up the sites' sums."""
        scores = []
        for reply in self._named(replies):
            try:
                scores.append(checked_scores(reply))
            except FederationError as error:
                self._set_aside(self._name(reply.metadata.src_node_id), f"scores: {error}")
        given = [score for score in scores if score is not None]
        if not given:
            return None
        self.current.sites_scores = merge_scores(given)
        return MetricRecord({**self.current.sites_scores.means()})

    # --- state -------------------------------------------------------------------------------

    def summary(self) -> None:
        """Flower's own lines about the rule."""
        self.rule.summary()

    def optimiser_state(self) -> dict[str, NDArray[np.float32]]:
        """The moments of FedAdam and FedYogi by name; empty for rules without a memory."""
        return {
            f"{moment}.{name}": value
            for moment in _MOMENTS
            for name, value in (getattr(self.rule, moment, None) or {}).items()
        }

    def restore_optimiser(self, state: dict[str, NDArray[np.float32]]) -> None:
        """Take up the moments of an interrupted run."""
        for moment in _MOMENTS:
            prefix = f"{moment}."
            values = {
                name.removeprefix(prefix): value
                for name, value in state.items()
                if name.startswith(prefix)
            }
            if values:
                setattr(self.rule, moment, values)

    # --- parts -------------------------------------------------------------------------------

    def _number(self, server_round: int) -> int:
        """Flower counts from 1 in every process; a run that goes on does not."""
        return self.first_round - 1 + server_round

    def _wait_for_sites(self, grid: Grid) -> list[int]:
        """The sites that are there, once there are enough or no more are to come."""
        began = settled = self.clock()
        nodes: list[int] = []
        while True:
            found = list(grid.get_node_ids())
            now = self.clock()
            settled = now if len(found) != len(nodes) else settled
            nodes = found
            if self.simulated:
                self._all_joined |= bool(nodes) and now - settled >= _SETTLED_SECONDS
            if self._all_joined or (not self.simulated and len(nodes) >= self.config.quorum):
                return nodes
            if now - began > self.config.join_deadline:
                raise FederationError(
                    f"{len(nodes)} sites after {self.config.join_deadline:g} s, "
                    f"{self.config.quorum} are needed",
                    hint="start more sites, or lower federation.quorum",
                )
            self.sleep(_POLL_SECONDS)

    def _named(self, replies: Iterable[Message]) -> list[Message]:
        """The replies, with the names that sites chose noted and the silent ones set aside."""
        answered = list(replies)
        for reply in answered:
            name = site_name(reply)
            if name is not None:
                self._names[reply.metadata.src_node_id] = name
        silent = set(self._asked) - {reply.metadata.src_node_id for reply in answered}
        for node in sorted(silent):
            self._set_aside(self._name(node), f"no answer within {self.config.deadline:g} s")
        # One order, whoever was first: a sum of floats depends on it.
        return sorted(answered, key=lambda reply: self._name(reply.metadata.src_node_id))

    def _name(self, node: int) -> str:
        return self._names.get(node, f"node {node}")

    def _set_aside(self, site: str, reason: str) -> None:
        self.current.set_aside += (SetAside(site, reason),)


_MOMENTS = ("m_t", "v_t")


class _Nodes:
    """The one question that Flower's sampling asks of a grid: which nodes are there?"""

    def __init__(self, nodes: list[int]) -> None:
        self.nodes = nodes

    def get_node_ids(self) -> list[int]:
        return self.nodes


def _only(nodes: list[int]) -> Grid:
    """A grid of these nodes, for sampling alone: all of them are taken."""
    return cast(Grid, _Nodes(nodes))
