"""What becomes of a round's updates: added to a mean one by one, or held until the last.

Means need memory for one update, however many sites there are. Krum and the trimmed mean compare
the sites with each other and need every update at once; `memory_needed` says how much that is.
Whoever adds does so in one order, not in that of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy.multikrum import select_multikrum

from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.codec import Arrays
from facemorph_core.learning.federated.mean import RunningMean
from facemorph_core.learning.federated.update import Signature
from facemorph_core.learning.federated.wire import EXAMPLES, FIGURES, TRAIN, WEIGHTS
from server.records import packed

_GIB = 2**30


class Fold(Protocol):
    """The updates of one round."""

    copies: int
    """Of every update, so many are in memory at once; 0 where none is kept."""
    left_out: Sequence[int]
    """Which of them, in the order in which they were added, `replies` has nothing of."""

    def add(self, update: Arrays, images: int) -> None:
        """Take in a site's update that counts as ``images`` images."""

    def replies(self, weights: Arrays) -> list[Message]:
        """What the rule merges: sites' weights, given the global ones of before."""


class MeanFold:
    """All updates as one, their mean: what every rule does that only averages."""

    copies = 0
    left_out: Sequence[int] = ()

    def __init__(self, expected: Signature) -> None:
        self.total = RunningMean(expected)

    def add(self, update: Arrays, images: int) -> None:
        self.total.add(update, images)

    def replies(self, weights: Arrays) -> list[Message]:
        return [_reply(weights, self.total.mean(), self.total.images)]


class HeldFold:
    """All updates, as they were added."""

    copies = 2  # the one that came, and the one that the rule makes of all of them
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
        updates = [RecordDict({WEIGHTS: packed(update)}) for update, _ in self.held]
        [nearest] = select_multikrum(updates, self.num_malicious, num_nodes_to_select=1)
        chosen = next(place for place, each in enumerate(updates) if each is nearest)
        self.left_out = [place for place in range(len(self.held)) if place != chosen]
        return [_reply(weights, *self.held[chosen])]


def check_memory(kind: str, fold: Fold, expected: Signature, *, sites: int, limit: float) -> None:
    """Refuse a round whose updates do not fit into ``limit`` GiB under the rule of this kind.

    Raises:
        FederationError: with what would be needed.
    """
    needed = memory_needed(fold, expected, sites=sites)
    if needed > limit:
        raise FederationError(
            f"{kind} needs the updates of all {sites} sites at once: {needed:.1f} GiB, "
            f"federation.reply_memory allows {limit:g}",
            hint="raise federation.reply_memory and start again: the run goes on; "
            "or start another run with a lower federation.fraction or a rule that averages",
        )


def memory_needed(fold: Fold, expected: Signature, *, sites: int) -> float:
    """GiB that the updates of a round take in ``fold``: 0 for a mean."""
    return fold.copies * sites * 4 * sum(math.prod(shape) for shape in expected.values()) / _GIB


def _reply(weights: Arrays, update: Arrays, images: int) -> Message:
    """A site's reply as Flower's rules want it: whole weights, and the count that weighs them."""
    merged = packed({name: value + update[name] for name, value in weights.items()})
    content = RecordDict({WEIGHTS: merged, FIGURES: MetricRecord({EXAMPLES: images})})
    return Message(content, dst_node_id=0, message_type=TRAIN)
