"""Replies are fetched one by one, and a mean of many needs no more memory than one of few."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError

from facemorph_core.config.schema import FedAvgConfig, KrumConfig, TrimmedMeanConfig
from facemorph_core.errors import FederationError
from server.arrivals import Arrivals
from server.average import WeightAverage
from server.fold import MeanFold, check_memory, fold_for, memory_needed

SHAPE = (256, 1024)
EXPECTED = {"encoder.w": SHAPE}
ONE = 4 * SHAPE[0] * SHAPE[1]  # bytes of an update


@pytest.fixture(autouse=True)
def identity():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def folded(rule, sites: int):
    fold = fold_for(rule, EXPECTED)
    for site in range(sites):
        fold.add({"encoder.w": np.full(SHAPE, site, np.float32)}, images=10)
    return fold


def peak_memory(rule, sites: int) -> int:
    tracemalloc.start()
    folded(rule, sites)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_mean_needs_the_memory_of_one_update_however_many_there_are():
    few, many = peak_memory(FedAvgConfig(), 3), peak_memory(FedAvgConfig(), 30)
    assert many < few + ONE
    assert peak_memory(KrumConfig(), 30) > 30 * ONE


def test_means_fold_and_comparisons_hold():
    weights = {"encoder.w": np.ones(SHAPE, np.float32)}
    [mean] = folded(FedAvgConfig(), 5).replies(weights)
    np.testing.assert_array_equal(mean.content["arrays"]["encoder.w"].numpy(), 1 + 2)
    assert mean.content["metrics"]["num-examples"] == 50
    held = folded(TrimmedMeanConfig(), 5).replies(weights)
    assert [m.content["arrays"]["encoder.w"].numpy()[0, 0] for m in held] == [1, 2, 3, 4, 5]


def test_krum_compares_updates_and_not_weights_beside_which_they_drown():
    """Small updates of large weights, as at the end of a training: the far one is never taken."""
    rng = np.random.default_rng(0)
    weights = {"encoder.w": np.full(SHAPE, 30.0, np.float32)}
    for far in range(5):
        fold = fold_for(KrumConfig(num_malicious=1), EXPECTED)
        for site in range(5):
            update = 1e-5 * rng.normal(size=SHAPE) + (1e-4 if site == far else 0.0)
            fold.add({"encoder.w": update.astype(np.float32)}, images=10)
        [reply] = fold.replies(weights)
        [taken] = set(range(5)) - set(fold.left_out)
        assert taken != far
        np.testing.assert_array_equal(
            reply.content["arrays"]["encoder.w"].numpy(),
            weights["encoder.w"] + fold.held[taken][0]["encoder.w"],
        )


def test_rules_that_compare_need_twice_every_update_and_means_none():
    assert memory_needed(FedAvgConfig(), EXPECTED, sites=10**6) == 0
    assert memory_needed(KrumConfig(), EXPECTED, sites=50) == 2 * 50 * ONE / 2**30
    check_memory(KrumConfig(), EXPECTED, sites=50, limit=0.1)
    with pytest.raises(FederationError, match=r"krum needs the updates of all 60 sites at once"):
        check_memory(KrumConfig(), EXPECTED, sites=60, limit=0.1)


def test_an_average_of_equal_weights_is_these_weights():
    average = WeightAverage(0.99)
    for _ in range(5):
        average.update({"w": np.full(3, 2.5, np.float32)})
    np.testing.assert_array_equal(average.mean["w"], 2.5)


def test_nothing_to_merge_is_said():
    with pytest.raises(FederationError, match="no update"):
        MeanFold(EXPECTED).replies({"encoder.w": np.zeros(SHAPE, np.float32)})


class Slow:
    """A grid whose reply number n comes at the n-th of ``times``; time passes by sleeping."""

    def __init__(self, times: list[float], broken: dict[int, Exception]) -> None:
        self.times, self.broken, self.now = times, broken, 0.0

    def push_messages(self, messages):
        self.sent = {f"id-{n}": message for n, message in enumerate(messages)}
        return list(self.sent)

    def pull_messages(self, ids):
        [each] = ids  # one alone, or a broken one would cost its neighbours
        number = int(each.split("-")[1])
        if self.now < self.times[number]:
            return []
        if number in self.broken:
            raise self.broken[number]
        message = self.sent[each]
        message.metadata.__dict__["_message_id"] = each
        reply = Message(RecordDict(), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = 0  # what a reply says of itself is not believed
        reply.metadata.__dict__["_reply_to_message_id"] = "id-0"
        return [reply]

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def taken(times: list[float], timeout: float, broken=None) -> tuple[list[tuple], Slow]:
    """(node, time, whether it was a message) of each reply, in the order of arrival."""
    grid, came = Slow(times, broken or {}), []
    arrivals = Arrivals(
        grid,
        take=lambda node, reply: came.append((node, grid.now, reply is not None)),
        clock=lambda: grid.now,
        sleep=grid.sleep,
    )
    messages = [
        Message(RecordDict(), dst_node_id=n, message_type="train") for n in range(len(times))
    ]
    assert arrivals.send_and_receive(messages, timeout=timeout) == []
    return came, grid


def test_each_reply_is_taken_when_it_comes_and_is_that_of_the_node_asked():
    times = [0.0, 5.0, 1.0, *[2.0] * 20]
    came, _ = taken(times, timeout=100)
    assert sorted(node for node, _, _ in came) == list(range(len(times)))
    for node, when, _ in came:
        assert times[node] <= when <= times[node] + 0.3


@pytest.mark.parametrize(
    "error", [ValueError(), KeyError("x"), RecursionError(), MemoryError(), DecodeError()]
)
def test_a_reply_of_which_flower_makes_no_message_costs_only_itself(error):
    came, _ = taken([0.0, 0.0, 0.0, 1.0], timeout=100, broken={1: error})
    assert {node: whole for node, _, whole in came} == {0: True, 1: False, 2: True, 3: True}


def test_a_network_that_fails_is_no_site_s_fault():
    with pytest.raises(ConnectionError):
        taken([0.0], timeout=100, broken={0: ConnectionError()})


def test_nobody_is_waited_for_beyond_the_timeout():
    came, grid = taken([0.0, 1.0, 1e9], timeout=10)
    assert len(came) == 2
    assert 10 <= grid.now < 11
