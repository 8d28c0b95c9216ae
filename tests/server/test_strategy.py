"""Who is asked in a round, and how long is waited. Merging is tested with the real apps in
tests/federation.
"""

from __future__ import annotations

import contextlib
import math
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.config.schema import FederationConfig, RunConfig
from facemorph_core.errors import FederationError, OutputError
from facemorph_core.learning.privacy import Spent, Told, read_told
from server.rounds import line
from server.rule import merging_rule
from server.spending import Spending, log_told
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


class Sites:
    """A grid whose node ``n`` is there for some spans of time, ``[(from, to), ...]``."""

    def __init__(self, clock: Clock, spans: list[list[tuple[float, float]]]) -> None:
        self.clock, self.spans = clock, spans

    def get_nodes(self) -> list[NodeInfo]:
        now = self.clock.now
        return [
            NodeInfo(node_id=n)
            for n, spans in enumerate(self.spans, 1)
            if any(begin <= now < end for begin, end in spans)
        ]


def guarded(clock: Clock, *, simulated: bool, spending=None, **federation) -> GuardedStrategy:
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
    """The nodes that are asked in round 1, and when; node ``n`` comes at the ``n``-th time."""
    clock = Clock()
    strategy = guarded(clock, simulated=simulated, **federation)
    sites = Sites(clock, [[(time, math.inf)] for time in times])
    messages = strategy.configure_train(1, WEIGHTS, ConfigRecord(), sites)
    return sorted(message.metadata.dst_node_id for message in messages), clock.now


def test_a_federation_begins_with_its_quorum_and_a_simulation_with_all_its_sites():
    times = [0.0, 0.5, 5.0, 5.0]
    assert asked(times, simulated=False, quorum=2)[0] == [1, 2]
    assert asked(times, simulated=True, quorum=2, sites=4)[0] == [1, 2, 3, 4]


def test_a_simulation_that_stays_smaller_than_its_config_takes_what_there_is():
    nodes, seconds = asked([0.0, 0.0], simulated=True, quorum=5, sites=8)
    assert nodes == [1, 2]
    assert seconds < 60


@pytest.mark.parametrize("simulated", [True, False])
def test_nobody_is_waited_for_for_ever(simulated):
    assert asked([], simulated=simulated, quorum=2, join_deadline=20) == ([], pytest.approx(20, 1))


def test_no_quorum_of_real_sites_is_ever_lowered_by_who_is_missing():
    for there in range(3):
        assert asked([0.0] * there, simulated=False, quorum=3, join_deadline=1)[0] == []
    assert asked([0.0] * 3, simulated=False, quorum=3)[0] == [1, 2, 3]


def test_sites_that_are_away_for_a_while_cost_the_rounds_of_that_while():
    """As with replies that do not come: only so many rounds in a row end the run."""
    clock = Clock()
    strategy = guarded(clock, simulated=False, quorum=2, join_deadline=60, max_failed_rounds=3)
    sites = Sites(clock, [[(0, math.inf)], [(150, math.inf)]])

    def round_of(number: int) -> list[int]:
        messages = strategy.configure_train(number, WEIGHTS, ConfigRecord(), sites)
        nodes = [message.metadata.dst_node_id for message in messages]
        if not nodes:
            assert strategy.aggregate_train(number, []) == (None, None)
        return nodes

    assert round_of(1) == []
    assert strategy.current.present == 1
    assert not strategy.current.merged
    [failure] = strategy.current.set_aside
    assert failure.site == "the server"
    assert failure.reason == "1 sites after 60 s, 2 are needed"
    assert round_of(2) == []
    assert sorted(round_of(3)) == [1, 2]


def test_sites_that_stay_away_end_the_run_with_the_reason():
    clock = Clock()
    strategy = guarded(clock, simulated=False, quorum=2, join_deadline=60, max_failed_rounds=2)
    away = Sites(clock, [])
    assert strategy.configure_train(1, WEIGHTS, ConfigRecord(), away) == []
    strategy.aggregate_train(1, [])
    assert strategy.configure_train(2, WEIGHTS, ConfigRecord(), away) == []
    with pytest.raises(FederationError, match="0 sites after 60 s, 2 are needed"):
        strategy.aggregate_train(2, [])


@pytest.mark.parametrize("trained", [True, False])
def test_the_last_round_of_a_run_without_a_result_does_not_count(trained):
    """However often it is started; after a round that was merged, a last one may fail."""
    strategy = guarded(Clock(), simulated=False, quorum=2, join_deadline=60, rounds=3)
    strategy.first_round, strategy.trained = 3, trained
    strategy.configure_train(1, WEIGHTS, ConfigRecord(), Sites(strategy.clock, []))
    with (
        contextlib.nullcontext()
        if trained
        else pytest.raises(FederationError, match="round 3: 0 usable replies of 2")
    ):
        assert strategy.aggregate_train(1, []) == (None, None)


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
    strategy = guarded(clock, simulated=True, spending=Spending(run, Spent(8.0, 1e-5)))
    strategy.configure_train(1, WEIGHTS, ConfigRecord(), Sites(clock, [[(0, math.inf)]] * 2))
    told = RecordDict({"metrics": MetricRecord({"epsilon": 2.0, "delta": 1e-5})})
    return strategy, Message(told, dst_node_id=1, message_type="train")


def test_questions_are_written_down_before_they_leave_and_answers_before_they_are_judged(tmp_path):
    strategy, reply = private(tmp_path)
    assert read_told(tmp_path) == Told({}, ("node 1", "node 2"), asked=True)
    strategy.take(1, reply)
    assert [item.site for item in strategy.current.set_aside] == ["node 1"]
    assert read_told(tmp_path) == Told({1e-5: 2.0}, ("node 2",), asked=True)
    assert line(strategy.current, {})["training"] == {"epsilon": 2.0, "delta": 1e-5}


def test_what_a_killed_simulation_left_open_is_closed_once_all_its_sites_tell(tmp_path):
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    config = RunConfig(
        name="x", privacy={"noise_multiplier": 1.0}, federation={"sites": 2, "quorum": 1}
    )
    for nodes in ((1, 2), (11, 12)):
        spending = Spending.of(tmp_path, config, simulated=True)
        spending.ask(1, "training", {node: f"node {node}" for node in nodes})
    assert read_told(tmp_path).silent == ("node 1", "node 11", "node 12", "node 2")
    for node in nodes:
        told = RecordDict({"metrics": MetricRecord({"epsilon": 2.0, "delta": 1e-5})})
        reply = Message(told, dst_node_id=1, message_type="train")
        spending.take(1, "training", node, f"site-{node}", reply)
    assert read_told(tmp_path) == Told({1e-5: 2.0}, (), asked=True)
    assert Spending.of(tmp_path, RunConfig(name="x"), simulated=True) is None


def test_a_file_that_cannot_be_read_is_said_and_raises_nothing(tmp_path, caplog):
    (tmp_path / "spent.jsonl").mkdir()
    log_told(tmp_path)
    assert "the sites' epsilon is not known" in caplog.text


def test_a_full_disk_is_not_blamed_on_a_site(tmp_path, monkeypatch):
    strategy, reply = private(tmp_path)

    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("facemorph_core.learning.privacy.told.append_entry", full)
    with pytest.raises(OutputError):
        strategy.take(1, reply)
    assert not strategy.current.set_aside
