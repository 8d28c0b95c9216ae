"""Who is asked in a round, and how long is waited. Merging is tested with the real apps in
tests/federation.
"""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.config.schema import FederationConfig
from facemorph_core.errors import FederationError, OutputError
from facemorph_core.privacy import Told, read_told
from server.rounds import line
from server.rule import merging_rule
from server.spending import Spending
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


def made(clock: Clock, *, simulated: bool, spending=None, **federation) -> GuardedStrategy:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    config = FederationConfig(**federation)
    return GuardedStrategy(
        merging_rule(config.strategy),
        config,
        expected={"encoder.a": (3,)},
        simulated=simulated,
        spending=spending,
        rng=random.Random(0),
        clock=clock,
        sleep=clock.sleep,
    )


def asked(times: list[float], *, simulated: bool, **federation) -> tuple[list[int], float]:
    """The nodes that are asked in round 1, and when."""
    clock = Clock()
    strategy = made(clock, simulated=simulated, **federation)
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


# --- what sites spend --------------------------------------------------------------------------


def private(run: Path) -> tuple[GuardedStrategy, Message]:
    """A round in which nodes 1 and 2 were asked, and an answer that tells no more than epsilon."""
    clock = Clock()
    strategy = made(clock, simulated=True, spending=Spending(run))
    strategy.configure_train(1, WEIGHTS, ConfigRecord(), Joining(clock, [0.0, 0.0]))
    told = RecordDict({"metrics": MetricRecord({"epsilon": 2.0, "delta": 1e-5})})
    return strategy, Message(told, dst_node_id=1, message_type="train")


def test_questions_are_written_down_before_they_leave_and_answers_before_they_are_judged(tmp_path):
    strategy, reply = private(tmp_path)
    assert read_told(tmp_path) == Told({}, ("node 1", "node 2"), asked=True)
    strategy.take(1, reply)
    assert [item.site for item in strategy.current.set_aside] == ["node 1"]
    assert read_told(tmp_path) == Told({1e-5: 2.0}, ("node 2",), asked=True)
    assert line(strategy.current, {})["training"] == {"epsilon": 2.0, "delta": 1e-5}


def test_a_full_disk_is_not_blamed_on_a_site(tmp_path, monkeypatch):
    strategy, reply = private(tmp_path)

    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("facemorph_core.privacy.told.append_entry", full)
    with pytest.raises(OutputError):
        strategy.take(1, reply)
    assert not strategy.current.set_aside
