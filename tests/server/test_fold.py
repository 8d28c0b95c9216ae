"""A mean of many updates needs no more memory than one of few; what compares holds them all."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity

from facemorph_core.config.schema import FedAvgConfig, KrumConfig, TrimmedMeanConfig
from facemorph_core.errors import FederationError
from server.average import WeightAverage
from server.fold import MeanFold, check_memory, memory_needed
from server.rule import rule_for

SHAPE = (256, 1024)
EXPECTED = {"encoder.w": SHAPE}
ONE = 4 * SHAPE[0] * SHAPE[1]  # bytes of an update


@pytest.fixture(autouse=True)
def identity():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def folded(rule, sites: int):
    fold = rule_for(rule, EXPECTED).fold()
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
        fold = rule_for(KrumConfig(num_malicious=1), EXPECTED).fold()
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
    mean, krum = (rule_for(rule, EXPECTED).fold() for rule in (FedAvgConfig(), KrumConfig()))
    assert memory_needed(mean, EXPECTED, sites=10**6) == 0
    assert memory_needed(krum, EXPECTED, sites=50) == 2 * 50 * ONE / 2**30
    check_memory("krum", krum, EXPECTED, sites=50, limit=0.1)
    with pytest.raises(FederationError, match=r"krum needs the updates of all 60 sites at once"):
        check_memory("krum", krum, EXPECTED, sites=60, limit=0.1)


def test_an_average_of_equal_weights_is_these_weights():
    average = WeightAverage(0.99)
    for _ in range(5):
        average.update({"w": np.full(3, 2.5, np.float32)})
    np.testing.assert_array_equal(average.mean["w"], 2.5)


def test_nothing_to_merge_is_said():
    with pytest.raises(FederationError, match="no update"):
        MeanFold(EXPECTED).replies({"encoder.w": np.zeros(SHAPE, np.float32)})
