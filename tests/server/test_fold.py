"""Replies are taken in one by one, and a mean of many needs no more memory than one of few."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from facemorph_core.config.schema import FedAvgConfig, KrumConfig, TrimmedMeanConfig
from facemorph_core.errors import FederationError
from server.arrivals import AT_ONCE, Arrivals
from server.average import WeightAverage
from server.fold import HeldFold, MeanFold, check_memory, fold_for, memory_needed

SHAPE = (256, 1024)
EXPECTED = {"encoder.w": SHAPE}
ONE = 4 * SHAPE[0] * SHAPE[1]  # bytes of an update


@pytest.fixture(autouse=True)
def identity():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def folded(rule, sites: int):
    fold = fold_for(rule, EXPECTED)
    for site in range(sites):
        fold.add(f"site-{site}", {"encoder.w": np.full(SHAPE, site, np.float32)}, images=10)
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


def test_rules_that_compare_need_twice_every_update_and_means_none():
    assert memory_needed(FedAvgConfig(), EXPECTED, sites=10**6) == 0
    assert memory_needed(KrumConfig(), EXPECTED, sites=50) == 2 * 50 * ONE / 2**30
    check_memory(KrumConfig(), EXPECTED, sites=50, limit=0.1)
    with pytest.raises(FederationError, match=r"krum needs the updates of all 60 sites at once"):
        check_memory(KrumConfig(), EXPECTED, sites=60, limit=0.1)


def test_the_order_of_arrival_is_forgotten():
    one, other = HeldFold(), HeldFold()
    updates = {f"site-{n}": {"w": np.full((2, 2), n, np.float32)} for n in range(4)}
    for fold, names in ((one, list(updates)), (other, list(updates)[::-1])):
        for name in names:
            fold.add(name, updates[name], 5)
    weights = {"w": np.zeros((2, 2), np.float32)}
    for a, b in zip(one.replies(weights), other.replies(weights), strict=True):
        np.testing.assert_array_equal(
            a.content["arrays"]["w"].numpy(), b.content["arrays"]["w"].numpy()
        )


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

    def __init__(self, times: list[float]) -> None:
        self.times, self.now = times, 0.0
        self.most_at_once = 0

    def push_messages(self, messages):
        self.sent = {f"id-{n}": message for n, message in enumerate(messages)}
        return list(self.sent)

    def pull_messages(self, ids):
        ids = list(ids)
        self.most_at_once = max(self.most_at_once, len(ids))
        found = []
        for each in ids:
            if self.now >= self.times[int(each.split("-")[1])]:
                message = self.sent[each]
                message.metadata.__dict__["_message_id"] = each
                found.append(Message(RecordDict(), reply_to=message))
        return found

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def waited(times: list[float], timeout: float) -> tuple[int, Slow, list[float]]:
    grid, taken_at = Slow(times), []
    arrivals = Arrivals(
        grid,
        take=lambda reply: taken_at.append(grid.now) or reply,
        clock=lambda: grid.now,
        sleep=grid.sleep,
    )
    messages = [
        Message(RecordDict(), dst_node_id=n, message_type="train") for n in range(len(times))
    ]
    return len(arrivals.send_and_receive(messages, timeout=timeout)), grid, taken_at


def test_each_reply_is_taken_when_it_comes_and_few_at_once():
    times = [0.0, 5.0, 1.0, *[2.0] * 20]
    count, grid, taken_at = waited(times, timeout=100)
    assert count == len(times)
    assert taken_at == pytest.approx(sorted(times), abs=0.3)
    assert grid.most_at_once <= AT_ONCE


def test_nobody_is_waited_for_beyond_the_timeout():
    count, grid, _ = waited([0.0, 1.0, 1e9], timeout=10)
    assert count == 2
    assert 10 <= grid.now < 11
