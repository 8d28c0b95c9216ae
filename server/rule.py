"""How good replies become one set of weights: Flower's own strategies, chosen by the config."""

from __future__ import annotations

from typing import assert_never

from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx, FedTrimmedAvg, FedYogi, Krum

from facemorph_core.config.schema import (
    FedAdamConfig,
    FedAvgConfig,
    FedProxConfig,
    FedYogiConfig,
    KrumConfig,
    StrategyConfig,
    TrimmedMeanConfig,
)
from facemorph_core.learning.federated.report import EXAMPLES


def merging_rule(config: StrategyConfig) -> FedAvg:
    """Flower's strategy for ``config``. It takes the nodes it is handed and waits for none."""
    rule = _rule(config)
    rule.min_train_nodes = rule.min_evaluate_nodes = rule.min_available_nodes = 1
    rule.weighted_by_key = EXAMPLES
    return rule


def _rule(config: StrategyConfig) -> FedAvg:
    match config:
        case FedAvgConfig():
            return FedAvg()
        case FedProxConfig(mu=mu):
            return FedProx(proximal_mu=mu)
        case FedAdamConfig(learning_rate=eta, beta_1=beta_1, beta_2=beta_2, tau=tau):
            return FedAdam(eta=eta, beta_1=beta_1, beta_2=beta_2, tau=tau)
        case FedYogiConfig(learning_rate=eta, beta_1=beta_1, beta_2=beta_2, tau=tau):
            return FedYogi(eta=eta, beta_1=beta_1, beta_2=beta_2, tau=tau)
        case TrimmedMeanConfig(beta=beta):
            return FedTrimmedAvg(beta=beta)
        case KrumConfig(num_malicious=num_malicious):
            return Krum(num_malicious_nodes=num_malicious)
        case _:
            assert_never(config)
