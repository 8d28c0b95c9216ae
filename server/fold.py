"""What becomes of a round's updates: added to a mean one by one, or held until the last.

Means need memory for one update, however many sites there are. Krum and the trimmed mean compare
the sites with each other and need every update at once; `memory_needed` says how much that is.
Whoever adds does so in one order, not in that of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy.multikrum import select_multikrum

from facemorph_core.config.schema import KrumConfig, StrategyConfig, TrimmedMeanConfig
from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.codec import Arrays
from facemorph_core.learning.federated.mean import RunningMean
from facemorph_core.learning.federated.report import EXAMPLES
from facemorph_core.learning.federated.update import Signature
from server.replies import FIGURES, WEIGHTS

_COPIES = 2
"""Of every update: the one that came, and the one that the rule makes of all of them."""
_GIB = 2**30


class Fold(Protocol):
    """The updates of one round."""

    left_out: Sequence[int]
    """Which of them, in the order in which they were added, `replies` has nothing of."""

    def add(self, update: Arrays, images: int) -> None:
        """Take in a site's update that counts as ``images`` images."""

    def replies(self, weights: Arrays) -> list[Message]:
        """What the rule merges: sites' weights, given the global ones of before."""


class MeanFold:
    """All updates as one, their mean: what every rule does that only averages."""

    left_out: Sequence[int] = ()

    def __init__(self, expected: Signature) -> None:
        self.total = RunningMean(expected)

    def add(self, update: Arrays, images: int) -> None:
        self.total.add(update, images)

    def replies(self, weights: Arrays) -> list[Message]:
        return [_reply(weights, self.total.mean(), self.total.images)]


class HeldFold:
    """All updates, as they were added."""

    left_out: Sequence[int] = ()

    def __init__(self) -> None:
        self.held: list[tuple[Arrays, int]] = []

    def add(self, update: Arrays, images: int) -> None:
        self.held.append((update, images))

    def replies(self, weights: Arrays) -> list[Message]:
        return [_reply(weights, update, images) for update, images in self.held]


class KrumFold(HeldFold):
    """All updates, of which the one nearest to its neighbours counts.

    Updates are compared, not weights: beside these their differences would drown in rounding.
    """

    def __init__(self, num_malicious: int) -> None:
        super().__init__()
        self.num_malicious = num_malicious

    def replies(self, weights: Arrays) -> list[Message]:
        updates = [
            RecordDict({WEIGHTS: ArrayRecord({n: Array(value) for n, value in update.items()})})
            for update, _ in self.held
        ]
        [nearest] = select_multikrum(updates, self.num_malicious, num_nodes_to_select=1)
        chosen = next(place for place, each in enumerate(updates) if each is nearest)
        self.left_out = [place for place in range(len(self.held)) if place != chosen]
        return [_reply(weights, *self.held[chosen])]


def needs_all(rule: StrategyConfig) -> bool:
    """Whether the rule compares the sites' updates instead of averaging them."""
    return isinstance(rule, KrumConfig | TrimmedMeanConfig)


def fold_for(rule: StrategyConfig, expected: Signature) -> Fold:
    """An empty fold for one round under ``rule``."""
    if isinstance(rule, KrumConfig):
        return KrumFold(rule.num_malicious)
    return HeldFold() if needs_all(rule) else MeanFold(expected)


def check_memory(rule: StrategyConfig, expected: Signature, *, sites: int, limit: float) -> None:
    """Refuse a round whose updates do not fit into ``limit`` GiB under ``rule``.

    Raises:
        FederationError: with what would be needed.
    """
    needed = memory_needed(rule, expected, sites=sites)
    if needed > limit:
        raise FederationError(
            f"{rule.kind} needs the updates of all {sites} sites at once: {needed:.1f} GiB, "
            f"federation.reply_memory allows {limit:g}",
            hint="raise federation.reply_memory and start again: the run goes on; "
            "or start another run with a lower federation.fraction or a rule that averages",
        )


def memory_needed(rule: StrategyConfig, expected: Signature, *, sites: int) -> float:
    """GiB that the updates of a round take under ``rule``: 0 for rules that average."""
    if not needs_all(rule):
        return 0.0
    return _COPIES * sites * 4 * sum(math.prod(shape) for shape in expected.values()) / _GIB


def _reply(weights: Arrays, update: Arrays, images: int) -> Message:
    """A site's reply as Flower's rules want it: whole weights, and the count that weighs them."""
    merged = {name: Array(value + update[name]) for name, value in weights.items()}
    content = RecordDict({WEIGHTS: ArrayRecord(merged), FIGURES: MetricRecord({EXAMPLES: images})})
    return Message(content, dst_node_id=0, message_type="train")
