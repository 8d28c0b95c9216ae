"""How a round is run: one of Flower's strategies inside a guard.

Flower's strategy does the arithmetic. The guard around it samples the sites, waits no longer
than a deadline, takes in each reply as it comes, sets a bad one aside by name instead of ending
the run, bounds what one may do, demands a quorum of good ones, and counts the rounds on from where
an interrupted run stopped.
"""

from __future__ import annotations

import logging
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import FedAvg, Strategy

from facemorph_core.config.schema import FederationConfig
from facemorph_core.errors import FederationError, OutputError
from facemorph_core.learning.federated import (
    ScoreSums,
    merge_reports,
    merge_scores,
    weights_problem,
)
from facemorph_core.learning.federated.codec import Arrays
from facemorph_core.learning.federated.update import Signature
from facemorph_core.learning.privacy.told import Of
from server.average import WeightAverage
from server.best import MOST_DB
from server.bounds import Bounds
from server.fold import check_memory, fold_for
from server.names import SERVER, SiteNames
from server.replies import checked_scores, size_of
from server.roundlog import RoundLog, SetAside
from server.spending import Spending
from server.taken import TakenUpdates

log = logging.getLogger("flwr")
_POLL_SECONDS, _SETTLED_SECONDS, _TELL_SECONDS = 0.25, 10.0, 30.0


@dataclass
class GuardedStrategy(Strategy):
    """Quorum, deadline and quarantine around ``rule``."""

    rule: FedAvg
    config: FederationConfig
    expected: Signature
    """Names and shapes that a site's weights must have."""
    simulated: bool
    """The sites are parts of one machine: all are there within seconds and no more will come, and
    the quorum is capped by them."""
    first_round: int = 1
    """Number of the next round; above 1 for a run that goes on."""
    trained: bool = False
    """Whether a round of an earlier process was merged."""
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    """Where the updates of a round may wait: as much room as they take together."""
    spending: Spending | None = None
    """Keeps what sites tell of their epsilon; None without differential privacy."""
    rng: random.Random = field(default_factory=random.Random)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    current: RoundLog = field(default_factory=lambda: RoundLog(0), init=False)

    def __post_init__(self) -> None:
        self._names = SiteNames()
        self._asked: list[int] = []
        self._answered: set[int] = set()
        self._scoring = False
        self._quorum, self._failed_in_a_row = 1, 0
        self.bounds = Bounds(self.config)
        self._taken = self._none_taken({})
        self._scores: dict[int, ScoreSums] = {}
        decay = self.config.ema_decay
        self._average = WeightAverage(decay) if decay else None
        self._all_joined, self._started = False, 0.0

    # --- training ----------------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask a sample of the sites to train."""
        self._started = self.clock()
        nodes = self._wait_for_sites(grid)
        self._quorum = self._needed(nodes)
        self._answered, self._scoring = set(), False
        self._taken = self._none_taken(plain(arrays))
        if len(nodes) < self._quorum:
            return self._nobody_asked(server_round, len(nodes))
        wanted = max(self._quorum, round(self.config.fraction * len(nodes)))
        self._asked = self.rng.sample(sorted(nodes), wanted)
        check_memory(
            self.config.strategy, self.expected, sites=wanted, limit=self.config.reply_memory
        )
        self.current = RoundLog(
            self._number(server_round),
            present=len(nodes),
            asked=wanted,
            bytes_down=wanted * size_of(arrays),
        )
        self._note_asked()
        return self.rule.configure_train(self.current.round, arrays, config, _only(self._asked))

    def _nobody_asked(self, server_round: int, present: int) -> list[Message]:
        """A round without enough sites fails as one without enough replies does."""
        self._asked = []
        self.current = RoundLog(self._number(server_round), present=present)
        waited = self.clock() - self._started
        self._set_aside(SERVER, f"{present} sites after {waited:.0f} s, {self._quorum} are needed")
        return []

    def take(self, node: int, reply: Message | None) -> None:
        """Take in what ``node`` answered, as it arrives; None is a reply that is no message."""
        self._answered.add(node)
        with self._blamed_on(node):
            if reply is None:
                raise FederationError("the reply cannot be read")
            self._names.note(node, reply)
            self._note_spent(node, reply)
            if self._scoring:
                self._take_scores(node, reply)
            else:
                self._taken.take(node, reply)

    def _note_asked(self) -> None:
        if self.spending is not None:
            sites = {node: self._names.of(node) for node in self._asked}
            self.spending.ask(self.current.round, self._asks_for, sites)

    def _note_spent(self, node: int, reply: Message) -> None:
        """Keep what a site tells of its epsilon, whether its reply will do or not."""
        if self.spending is None:
            return
        name, before = self._names.of(node), self.current.spent
        told = self.spending.take(self.current.round, self._asks_for, node, name, reply)
        if told is not None:
            self.current.spent = told if before is None else told.beside(before)

    @property
    def _asks_for(self) -> Of:
        return "scores" if self._scoring else "training"

    def _take_scores(self, node: int, reply: Message) -> None:
        scores = checked_scores(reply)
        if scores is None:
            return
        self.bounds.check_images(scores.examples)
        psnr = scores.means().get("psnr", 0.0)
        # Noise for privacy may carry an honest site's figure out of what can be.
        if self.spending is None and not 0 <= psnr <= MOST_DB:
            raise FederationError(f"a PSNR of {psnr:.4g} dB cannot be")
        self._scores[node] = scores

    @contextmanager
    def _blamed_on(self, node: int) -> Iterator[None]:
        """Whatever is wrong with one reply sets that one aside, by name."""
        where = "scores: " if self._scoring else ""
        try:
            yield
        except FederationError as error:
            self._set_aside(self._names.of(node), f"{where}{error}")
        except (OSError, OutputError):
            raise  # our own disk is full; no reply fills it
        except Exception as error:
            log.warning("the reply of node %d", node, exc_info=error)
            kind = type(error).__name__
            self._set_aside(self._names.of(node), f"{where}the reply cannot be read ({kind})")

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Merge the replies that were taken in; None keeps the weights of the round before."""
        self._note_silent()
        taken, good = self._taken, sorted(self._taken.nodes, key=self._names.order)
        self.current.capped = tuple(
            SetAside(self._names.of(node), less) for node, less in taken.capped().items()
        )
        self.current.bytes_up = taken.bytes
        merged = None
        if len(good) >= self._quorum:
            merged, good = self._merged(good)
        self.current.used = tuple(self._names.of(node) for node in good)
        taken.close()
        self.current.merged = merged is not None
        self.current.seconds = self.clock() - self._started
        if merged is None:
            self._count_failure(len(taken.nodes))
            return None, None
        self._failed_in_a_row, self.trained = 0, True
        taken.merged()
        if self._average is not None:
            self._average.update(merged)
        self.current.training = merge_reports(taken.reports(good))
        return packed(merged), MetricRecord({**self.current.training.as_record()})

    def _merged(self, good: list[int]) -> tuple[Arrays | None, list[int]]:
        """The weights that the updates of these nodes make, if any, and those who are in them."""
        fold = fold_for(self.config.strategy, self.expected)
        self._taken.fill(fold, good)
        try:
            arrays, _ = self.rule.aggregate_train(
                self.current.round, fold.replies(self._taken.weights)
            )
        except AggregationError as error:
            self._set_aside(SERVER, f"the rule failed: {error}")
            return None, good
        if arrays is None:
            return None, good
        weights = plain(arrays)
        problem = weights_problem(weights, self.expected)
        if problem is not None:
            self._set_aside(SERVER, f"the merged weights: {problem}")
            return None, good
        left_out = [good[place] for place in fold.left_out]
        for node in left_out:
            self._set_aside(self._names.of(node), f"{self.config.strategy.kind} took another's")
        return weights, [node for node in good if node not in left_out]

    def _count_failure(self, usable: int) -> None:
        """End a run that does not get on; whoever starts it again gives it new tries.

        A run whose every round failed has no result: its last round does not count until it has.
        """
        self._failed_in_a_row += 1
        without_result = not self.trained and self.current.round >= self.config.rounds
        if self._failed_in_a_row < self.config.max_failed_rounds and not without_result:
            return
        reasons = "; ".join(f"{item.site}: {item.reason}" for item in self.current.set_aside)
        raise FederationError(
            f"round {self.current.round}: {usable} usable replies of {self._quorum} needed, "
            f"{self._failed_in_a_row} rounds in a row without a result "
            f"({reasons})",
            hint="mend or start the sites, or lower federation.quorum, and start again: "
            "the run goes on from its last checkpoint",
        )

    # --- evaluation --------------------------------------------------------------------------

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the sites of this round to score the merged model, if scores are due."""
        number = self._number(server_round)
        due = self.config.scores_are_due(number)
        self._answered, self._scoring, self._scores = set(), True, {}
        present = set(grid.get_node_ids())
        self._asked = [node for node in self._asked if node in present]
        if not (due and self.current.merged and self._asked):
            self._asked = []
            return []
        self._note_asked()
        return self.rule.configure_evaluate(
            number, self.released(arrays), config, _only(self._asked)
        )

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Add up the sites' sums."""
        self._note_silent()
        if not self._scores:
            return None
        counts = self.bounds.counted({node: each.examples for node, each in self._scores.items()})
        # One order, whoever was first: a sum of floats depends on it.
        given = [
            self._scores[n].counted_as(counts[n]) for n in sorted(counts, key=self._names.order)
        ]
        self.current.sites_scores = merge_scores(given)
        return MetricRecord({**self.current.sites_scores.means()})

    # --- state -------------------------------------------------------------------------------

    def summary(self) -> None:
        """Flower's own lines about the rule."""
        self.rule.summary()

    def released(self, arrays: ArrayRecord) -> ArrayRecord:
        """What is scored and given away when a round has brought ``arrays``."""
        if self._average is None or not self._average.mean:
            return arrays
        return packed(self._average.mean)

    def memory(self, arrays: ArrayRecord) -> Arrays:
        """What the next round needs beside the released weights: see `restore`.

        What norm is usual; the moments of FedAdam and FedYogi; with a running mean, the weights of
        this round.
        """
        kept: Arrays = {
            f"{moment}.{name}": value
            for moment in _MOMENTS
            for name, value in (getattr(self.rule, moment, None) or {}).items()
        }
        if self._average is not None:
            kept |= {f"{_TRAINED}.{name}": value for name, value in plain(arrays).items()}
            kept[_ROUNDS] = np.array([self._average.rounds], np.float32)
        if self.bounds.usual is not None:
            kept[_USUAL] = np.array([self.bounds.usual], np.float32)
        return kept

    def restore(self, released: Arrays, memory: Arrays) -> Arrays:
        """Take up the `memory` of an interrupted run; the weights to go on from."""
        for moment in _MOMENTS:
            if values := _under(moment, memory):
                setattr(self.rule, moment, values)
        if _USUAL in memory:
            self.bounds.usual = float(memory[_USUAL][0])
        if self._average is None or _ROUNDS not in memory:
            return released
        self._average.mean, self._average.rounds = dict(released), int(memory[_ROUNDS][0])
        return _under(_TRAINED, memory)

    # --- parts -------------------------------------------------------------------------------

    def _number(self, server_round: int) -> int:
        """Flower counts from 1 in every process; a run that goes on does not."""
        return self.first_round - 1 + server_round

    def _needed(self, nodes: list[int]) -> int:
        """Usable replies that make a round, with these nodes present."""
        if not self.simulated:
            return self.config.quorum
        return max(1, self.config.strategy.least_replies, min(self.config.quorum, len(nodes)))

    def _wait_for_sites(self, grid: Grid) -> list[int]:
        """The sites that are there, once there are enough, no more will come, or time is up."""
        began = settled = told = self.clock()
        nodes: list[int] = []
        while True:
            seen = list(grid.get_nodes())
            self._names.see(seen)
            now = self.clock()
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
                there = ", ".join(sorted(map(self._names.of, nodes))) or "nobody"
                log.info("waiting for %d sites; there: %s", self.config.quorum, there)
            self.sleep(_POLL_SECONDS)

    def _none_taken(self, weights: Arrays) -> TakenUpdates:
        return TakenUpdates(weights, self.expected, self.config.codec, self.bounds, self.folder)

    def _note_silent(self) -> None:
        """Set aside by name the sites that were asked and did not answer."""
        for node in sorted(set(self._asked) - self._answered):
            self._set_aside(self._names.of(node), f"no answer within {self.config.deadline:g} s")

    def _set_aside(self, site: str, reason: str) -> None:
        self.current.set_aside += (SetAside(site, reason),)


_MOMENTS = ("m_t", "v_t")
_TRAINED, _ROUNDS, _USUAL = "trained", "averaged-rounds", "usual-norm"


def plain(record: ArrayRecord) -> Arrays:
    """The record's arrays in float32: Flower's adaptive rules compute in float64."""
    return {name: array.numpy().astype(np.float32) for name, array in record.items()}


def packed(arrays: Arrays) -> ArrayRecord:
    """The inverse of `plain`."""
    return ArrayRecord({name: Array(value) for name, value in arrays.items()})


def _under(prefix: str, arrays: Arrays) -> Arrays:
    """Arrays named ``prefix.NAME``, by NAME."""
    start = f"{prefix}."
    return {n.removeprefix(start): value for n, value in arrays.items() if n.startswith(start)}


class _Nodes:
    """The one question that Flower's sampling asks of a grid: which nodes are there?"""

    def __init__(self, nodes: list[int]) -> None:
        self.nodes = nodes

    def get_node_ids(self) -> list[int]:
        return self.nodes


def _only(nodes: list[int]) -> Grid:
    """A grid of these nodes, for sampling alone: all of them are taken."""
    return cast(Grid, _Nodes(nodes))
