"""The rounds of a run: federated averaging, with the sites that are really there.

    w <- the global weights
    for each round t = 1, 2, ...:
        S <- a sample of the sites
        each site of S trains on from w and sends its update
        w <- what the rule makes of w and the updates
        each site of S scores w

A site may be away, late, broken or hostile: each exchange ends at a deadline, whatever is wrong
with a reply sets that one aside by name, one reply may do no more than the bounds allow, and a
round needs a quorum of good ones.

References:
    | Communication-Efficient Learning of Deep Networks from Decentralized Data
    | (McMahan et al., 2017), Algorithm 1
"""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from facemorph_core.config.schema import FederationConfig
from facemorph_core.errors import FederationError
from facemorph_core.learning.federated import merge_reports, weights_problem, wire
from facemorph_core.learning.privacy.told import Of
from server.exchange import Take, exchange
from server.fold import Fold, check_memory
from server.names import SERVER
from server.presence import Presence
from server.records import packed, size_of
from server.round import Round, SetAside
from server.spending import Spending
from server.state import ServerState
from server.taken import TakenScores, TakenUpdates

log = logging.getLogger("flwr")


class Phase(NamedTuple):
    """What an exchange of a round is for."""

    of: Of
    kind: str
    about: str = ""
    """What the reason says before it when a reply is set aside."""


TRAINING = Phase("training", wire.TRAIN)
SCORES = Phase("scores", wire.EVALUATE, about="scores: ")


@dataclass
class Federation:
    """The sites of a run, and what its rounds have come to."""

    config: FederationConfig
    sites: Presence
    state: ServerState
    run_id: str
    handshake: Mapping[str, str]
    """What every message says beside the round."""
    trained: bool = False
    """Whether any round was merged, also of an earlier process."""
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    """Where the updates of a round may wait: as much room as they take together."""
    spending: Spending | None = None
    """Keeps what sites tell of their epsilon; None without differential privacy."""
    rng: random.Random = field(default_factory=random.Random)
    failed_in_a_row: int = 0

    def run(self, numbers: Iterable[int], keep: Callable[[Round, ServerState], None]) -> None:
        """Hold these rounds, and ``keep`` each.

        Raises:
            FederationError: too many of them in a row bring nothing.
        """
        for number in numbers:
            keep(self.hold(number), self.state)

    def hold(self, number: int) -> Round:
        """Hold one round."""
        this, began = Round(number), self.sites.clock.monotonic()
        self.sample(this)
        self.train(this)
        this.seconds = self.sites.clock.monotonic() - began
        self.require_progress(this)
        self.score(this)
        return this

    # --- its steps ---------------------------------------------------------------------------

    def sample(self, this: Round) -> None:
        """Choose whom to ask; nobody if too few sites are there."""
        began = self.sites.clock.monotonic()
        nodes = self.sites.wait()
        this.present, this.quorum = len(nodes), self.sites.quorum(len(nodes))
        if this.present < this.quorum:
            waited = self.sites.clock.monotonic() - began
            words = f"{this.present} sites after {waited:.0f} s, {this.quorum} are needed"
            this.blame(SERVER, words)
            return
        wanted = max(this.quorum, round(self.config.fraction * len(nodes)))
        this.asked = self.rng.sample(sorted(nodes), wanted)
        log.info("round %d: %d of %d sites are asked", this.number, wanted, this.present)

    def train(self, this: Round) -> None:
        """Ask for updates, and merge them."""
        if not this.asked:
            return
        fold = self.state.rule.fold()
        check_memory(
            self.config.strategy.kind,
            fold,
            self.state.expected,
            sites=len(this.asked),
            limit=self.config.reply_memory,
        )
        weights = packed(self.state.weights)
        this.bytes_down = len(this.asked) * size_of(weights)
        with closing(TakenUpdates(self.state, self.config.codec, self.folder)) as taken:
            mu = self.state.rule.proximal_mu
            question = self.question(this, weights, proximal_mu=mu)
            self.ask(this, TRAINING, this.asked, question, taken.take)
            self.merge(this, taken, fold)

    def merge(self, this: Round, taken: TakenUpdates, fold: Fold) -> None:
        """Make the next weights of the updates, if there are enough and they make any."""
        name, state = self.sites.names.of, self.state
        good = sorted(taken.nodes, key=self.sites.names.order)
        this.used = tuple(map(name, good))
        this.capped = [SetAside(name(node), less) for node, less in taken.capped().items()]
        this.bytes_up = taken.bytes
        if len(good) < this.quorum:
            return
        before = state.rule.memory()
        taken.fill(fold, good)
        try:
            weights = state.rule.merge(this.number, state.weights, fold)
            if problem := weights_problem(weights, state.expected):
                raise FederationError(f"the merged weights: {problem}")
        except FederationError as error:
            state.rule.restore(before)
            this.blame(SERVER, str(error))
            return
        for place in fold.left_out:
            this.blame(name(good[place]), f"{self.config.strategy.kind} took another's")
        used = [node for place, node in enumerate(good) if place not in fold.left_out]
        this.used = tuple(map(name, used))
        this.training = merge_reports(taken.reports(used))
        this.merged = True
        taken.merged()
        state.advance(weights)

    def score(self, this: Round) -> None:
        """Ask the sites of this round to score what it has brought, if scores are due."""
        if not (this.merged and self.config.scores_are_due(this.number)):
            return
        here = set(self.sites.grid.get_node_ids())
        asked = [node for node in this.asked if node in here]
        # Noise for privacy may carry an honest site's figure out of what can be.
        taken = TakenScores(self.state.bounds, noised=self.spending is not None)
        question = self.question(this, packed(self.state.released))
        self.ask(this, SCORES, asked, question, taken.take)
        this.sites_scores = taken.merged(self.sites.names.order)

    def require_progress(self, this: Round) -> None:
        """End a run that does not get on; whoever starts it again gives it new tries.

        A run whose every round failed has no result: its last round does not count until it has.
        """
        if this.merged:
            self.failed_in_a_row, self.trained = 0, True
            return
        self.failed_in_a_row += 1
        without_result = not self.trained and this.number >= self.config.rounds
        if self.failed_in_a_row < self.config.max_failed_rounds and not without_result:
            return
        reasons = "; ".join(f"{site}: {reason}" for site, reason in this.set_aside)
        raise FederationError(
            f"round {this.number}: {len(this.used)} usable replies of {this.quorum} needed, "
            f"{self.failed_in_a_row} rounds in a row without a result ({reasons})",
            hint="mend or start the sites, or lower federation.quorum, and start again: "
            "the run goes on from its last checkpoint",
        )

    # --- an exchange -------------------------------------------------------------------------

    def question(
        self, this: Round, weights: ArrayRecord, *, proximal_mu: float = 0.0
    ) -> RecordDict:
        """What a message of this round brings to every site."""
        request = wire.Request(self.run_id, this.number, proximal_mu)
        words = ConfigRecord({**request.as_record(), **self.handshake})
        return RecordDict({wire.WEIGHTS: weights, wire.CONFIG: words})

    def ask(
        self, this: Round, phase: Phase, nodes: Sequence[int], question: RecordDict, take: Take
    ) -> None:
        """Ask these nodes the same and take what they answer; set aside what is wrong by name."""
        name, spending = self.sites.names.of, self.spending
        if spending is not None:
            spending.ask(this.number, phase.of, {node: name(node) for node in nodes})

        def named(node: int, reply: Message) -> None:
            self.sites.names.note(node, reply)
            if spending is not None:  # kept whether the reply will do or not
                this.note_spent(spending.take(this.number, phase.of, node, name(node), reply))
            take(node, reply)

        faults = exchange(
            self.sites.grid,
            nodes,
            lambda node: Message(question, dst_node_id=node, message_type=phase.kind),
            named,
            self.config.deadline,
            about=phase.about,
            clock=self.sites.clock,
        )
        for node, reason in faults.items():
            this.blame(name(node), reason)
