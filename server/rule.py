"""How the updates of a round become the next weights: the one place that knows Flower's strategies.

Another rule is another class with the methods of `Rule`, and a line in `rule_for`. Of Flower's
strategies the arithmetic alone is used: who is asked, and whose reply counts, `server.federate`
says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, assert_never

from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import FedAdam, FedAvg, FedTrimmedAvg, FedYogi

from facemorph_core.config.schema import (
    FedAdamConfig,
    FedAvgConfig,
    FedProxConfig,
    FedYogiConfig,
    KrumConfig,
    StrategyConfig,
    TrimmedMeanConfig,
)
from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.codec import Arrays
from facemorph_core.learning.federated.update import Signature
from facemorph_core.learning.federated.wire import EXAMPLES
from server.fold import Fold, HeldFold, KrumFold, MeanFold
from server.records import plain

_MOMENTS = ("m_t", "v_t")


class Rule(Protocol):
    """A rule of aggregation. One object a run: it may remember."""

    @property
    def proximal_mu(self) -> float:
        """Weight of the proximal term that sites add to their loss; 0 without."""

    def fold(self) -> Fold:
        """What takes in the updates of a round, empty."""

    def merge(self, number: int, weights: Arrays, fold: Fold) -> Arrays:
        """The weights after round ``number``, in float32, from those before it, which stay.

        Raises:
            FederationError: these updates make none.
        """

    def memory(self) -> Arrays:
        """What it remembers, to be kept on the disk."""

    def restore(self, memory: Arrays) -> None:
        """Take up what `memory` gave, among other arrays; without any, know nothing."""


@dataclass
class FlowerRule:
    """The arithmetic of one of Flower's strategies."""

    strategy: FedAvg
    empty: Callable[[], Fold]
    proximal_mu: float = 0.0

    def __post_init__(self) -> None:
        self.strategy.weighted_by_key = EXAMPLES

    def fold(self) -> Fold:
        return self.empty()

    def merge(self, number: int, weights: Arrays, fold: Fold) -> Arrays:
        if isinstance(self.strategy, FedAdam | FedYogi):
            self.strategy.current_arrays = weights  # as its `configure_train` would note them
        try:
            merged, _ = self.strategy.aggregate_train(number, fold.replies(weights))
        except AggregationError as error:
            raise FederationError(f"the rule failed: {error}") from None
        assert merged is not None, "Flower makes something of every reply"
        return plain(merged)

    def memory(self) -> Arrays:
        """The moments of FedAdam and FedYogi."""
        return {
            f"{moment}.{name}": value
            for moment in _MOMENTS
            for name, value in (getattr(self.strategy, moment, None) or {}).items()
        }

    def restore(self, memory: Arrays) -> None:
        for moment in _MOMENTS:
            setattr(self.strategy, moment, under(moment, memory) or None)


def rule_for(config: StrategyConfig, expected: Signature) -> Rule:
    """The rule of ``config`` for weights of the ``expected`` names and shapes."""
    mean = partial(MeanFold, expected)
    match config:
        case FedAvgConfig():
            return FlowerRule(FedAvg(), mean)
        case FedProxConfig(mu=mu):
            return FlowerRule(FedAvg(), mean, proximal_mu=mu)
        case FedAdamConfig(learning_rate=eta, beta_1=beta_1, beta_2=beta_2, tau=tau):
            return FlowerRule(FedAdam(eta=eta, beta_1=beta_1, beta_2=beta_2, tau=tau), mean)
        case FedYogiConfig(learning_rate=eta, beta_1=beta_1, beta_2=beta_2, tau=tau):
            return FlowerRule(FedYogi(eta=eta, beta_1=beta_1, beta_2=beta_2, tau=tau), mean)
        case TrimmedMeanConfig(beta=beta):
            return FlowerRule(FedTrimmedAvg(beta=beta), HeldFold)
        case KrumConfig(num_malicious=num_malicious):
            return FlowerRule(FedAvg(), partial(KrumFold, num_malicious))
        case _:
            assert_never(config)


def under(prefix: str, arrays: Arrays) -> Arrays:
    """Arrays named ``prefix.NAME``, by NAME."""
    start = f"{prefix}."
    return {n.removeprefix(start): value for n, value in arrays.items() if n.startswith(start)}
