"""Who is asked in a round, and how long is waited. Merging is tested with the real apps in
tests/federation.
"""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.config.schema import FederationConfig
from facemorph_core.errors import FederationError
from server.rule import merging_rule
from server.strategy import GuardedStrategy

WEIGHTS = ArrayRecord({"encoder.a": Array(np.zeros(3, np.float32))})


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Joining:
    """A grid whose node ``n`` appears at the ``n``-th of ``times``."""

    def __init__(self, clock: Clock, times: list[float]) -> None:
        self.clock, self.times = clock, times

    def get_node_ids(self) -> list[int]:
        return [n for n, time in enumerate(self.times, 1) if self.clock.now >= time]


def asked(times: list[float], *, simulated: bool, **federation) -> tuple[list[int], float]:
    """The nodes that are asked in round 1, and when."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    config, clock = FederationConfig(**federation), Clock()
    strategy = GuardedStrategy(
        merging_rule(config.strategy),
        config,
        expected={"encoder.a": (3,)},
        simulated=simulated,
        rng=random.Random(0),
        clock=clock,
        sleep=clock.sleep,
    )
    messages = strategy.configure_train(1, WEIGHTS, ConfigRecord(), Joining(clock, times))
    return sorted(message.metadata.dst_node_id for message in messages), clock.now


def test_a_federation_begins_with_its_quorum_and_a_simulation_with_all_its_nodes():
    times = [0.0, 0.5, 1.0, 1.0]
    assert asked(times, simulated=False, quorum=2)[0] == [1, 2]
    assert asked(times, simulated=True, quorum=2)[0] == [1, 2, 3, 4]


def test_a_simulation_with_fewer_nodes_than_its_quorum_takes_what_there_is():
    nodes, seconds = asked([0.0, 0.0], simulated=True, quorum=5)
    assert nodes == [1, 2]
    assert seconds < 5


@pytest.mark.parametrize("simulated", [True, False])
def test_nobody_is_waited_for_for_ever(simulated):
    with pytest.raises(FederationError, match="0 sites after 20 s, 2 are needed"):
        asked([], simulated=simulated, quorum=2, join_deadline=20)


@given(nodes=st.integers(1, 40), fraction=st.floats(0.01, 1), quorum=st.integers(1, 40))
def test_a_sample_is_distinct_present_and_no_smaller_than_the_quorum(nodes, fraction, quorum):
    chosen, _ = asked([0.0] * nodes, simulated=True, quorum=quorum, fraction=fraction)
    assert all(a < b for a, b in pairwise(chosen))
    assert set(chosen) <= set(range(1, nodes + 1))
    assert len(chosen) == max(min(quorum, nodes), round(fraction * nodes))
