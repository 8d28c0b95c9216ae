"""What one round leaves the next, and a killed run the one that goes on."""

from __future__ import annotations

import numpy as np

from facemorph_core.config.schema import FederationConfig
from facemorph_core.learning.federated.codec import Arrays
from facemorph_core.learning.federated.update import Signature
from server.average import WeightAverage
from server.bounds import Bounds
from server.rule import rule_for, under

_TRAINED, _ROUNDS, _USUAL = "trained", "averaged-rounds", "usual-norm"


class ServerState:
    """The global weights, and what the server remembers beside them.

    The memory of the rule; what norm is usual; the running mean, if there is to be one.
    """

    def __init__(self, config: FederationConfig, expected: Signature, weights: Arrays) -> None:
        self.expected, self.weights = expected, weights
        self.rule = rule_for(config.strategy, expected)
        self.bounds = Bounds(config)
        self.average = WeightAverage(config.ema_decay) if config.ema_decay else None

    @classmethod
    def restored(
        cls, config: FederationConfig, expected: Signature, released: Arrays, memory: Arrays
    ) -> ServerState:
        """The state whose `released` weights and `memory` these were."""
        state = cls(config, expected, released)
        state.rule.restore(memory)
        if _USUAL in memory:
            state.bounds.usual = float(memory[_USUAL][0])
        if state.average is not None and _ROUNDS in memory:
            if rounds := int(memory[_ROUNDS][0]):  # else the mean begins with the first merge
                state.average.mean, state.average.rounds = dict(released), rounds
            state.weights = under(_TRAINED, memory)
        return state

    @property
    def released(self) -> Arrays:
        """What is scored and given away."""
        return (self.average.mean if self.average else {}) or self.weights

    def advance(self, weights: Arrays) -> None:
        """A round has brought these weights."""
        self.weights = weights
        if self.average is not None:
            self.average.update(weights)

    def memory(self) -> Arrays:
        """What the next round needs beside the released weights."""
        kept = self.rule.memory()
        if self.average is not None:
            kept |= {f"{_TRAINED}.{name}": value for name, value in self.weights.items()}
            kept[_ROUNDS] = np.array([self.average.rounds], np.float32)
        if self.bounds.usual is not None:
            kept[_USUAL] = np.array([self.bounds.usual], np.float32)
        return kept
