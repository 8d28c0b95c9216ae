"""What the replies of one round bring: checked as they come, bounded once all are there.

Between the two updates wait on the disk (`server.waiting`). All are added in one order, whoever was
first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from flwr.app import Message

from facemorph_core.errors import FederationError
from facemorph_core.learning.federated import RoundReport, ScoreSums, merge_scores
from facemorph_core.learning.federated.codec import Codec, decoded, layout
from facemorph_core.learning.federated.wire import WEIGHTS
from server.best import MOST_DB
from server.bounds import Bounds, Claim, Share, norm_of
from server.fold import Fold
from server.records import size_of
from server.replies import checked_arrays, checked_scores, checked_training
from server.state import ServerState
from server.waiting import Waiting


class TakenUpdates:
    """The updates of the sites that answered well, by node."""

    def __init__(self, state: ServerState, codec: Codec, folder: Path) -> None:
        self.bytes = 0
        self._weights, self._expected, self._bounds = state.weights, state.expected, state.bounds
        self._codec = codec
        self._reports: dict[int, RoundReport] = {}
        self._claims: dict[int, Claim] = {}
        self._waiting = Waiting(layout(state.expected, codec), folder)

    def take(self, node: int, reply: Message) -> None:
        """Take in a reply.

        Raises:
            FederationError: with the first reason against it; nothing of it is kept.
        """
        report = checked_training(reply)
        self._bounds.check_images(report.examples)
        arrays = checked_arrays(reply, self._waiting.layout)
        norm = norm_of(decoded(arrays, self._expected, self._codec))
        self._bounds.check_norm(norm, self._weights)
        self._waiting.put(node, arrays)
        self._reports[node], self._claims[node] = report, Claim(report.examples, norm)
        self.bytes += size_of(reply.content.array_records[WEIGHTS])

    @property
    def nodes(self) -> list[int]:
        """Whose updates are here."""
        return list(self._claims)

    def capped(self) -> dict[int, str]:
        """Which nodes count less than they asked for, and how much less."""
        told = {n: share.beside(self._claims[n]) for n, share in self._shares().items()}
        return {node: less for node, less in told.items() if less}

    def fill(self, fold: Fold, order: Sequence[int]) -> None:
        """Add all updates to ``fold``, each as far as it counts."""
        shares = self._shares()
        for node in order:
            update = decoded(self._waiting.get(node), self._expected, self._codec)
            scale = np.float32(shares[node].scale)
            fold.add({n: value * scale for n, value in update.items()}, shares[node].images)

    def reports(self, order: Sequence[int]) -> list[RoundReport]:
        """What the sites said, for as many images as they count."""
        shares = self._shares()
        return [self._reports[node].counted_as(shares[node].images) for node in order]

    def merged(self) -> None:
        """These updates became the weights: what is usual in them is known from now on."""
        self._bounds.learn(self._claims)

    def close(self) -> None:
        """Give the disk back."""
        self._waiting.close()

    def _shares(self) -> dict[int, Share]:
        return self._bounds.shares(self._claims)


class TakenScores:
    """The sums of the sites that scored well, by node; ``noised`` ones may be anything."""

    def __init__(self, bounds: Bounds, *, noised: bool) -> None:
        self._bounds, self._noised = bounds, noised
        self._sums: dict[int, ScoreSums] = {}

    def take(self, node: int, reply: Message) -> None:
        """Take in a reply, which may well bring no scores.

        Raises:
            FederationError: with the first reason against it.
        """
        scores = checked_scores(reply)
        if scores is None:
            return
        self._bounds.check_images(scores.examples)
        psnr = scores.means().get("psnr", 0.0)
        if not self._noised and not 0 <= psnr <= MOST_DB:
            raise FederationError(f"a PSNR of {psnr:.4g} dB cannot be")
        self._sums[node] = scores

    def merged(self, order: Callable[[int], tuple[str, int]]) -> ScoreSums | None:
        """The sums over all sites' faces, as far as each counts; None without any."""
        counts = self._bounds.counted({node: each.examples for node, each in self._sums.items()})
        given = [self._sums[node].counted_as(counts[node]) for node in sorted(counts, key=order)]
        return merge_scores(given) if given else None
