"""What one reply can do at most: bounds on counts and norms, in a round as it is held."""

from __future__ import annotations

import logging
from statistics import median_high

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.config.schema import FederationConfig
from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.codec import encoded
from server.bounds import Bounds, Claim, norm_of
from server.federate import Federation
from server.presence import Presence
from server.round import Round
from server.state import ServerState
from server.waiting import Waiting
from tests.server.grids import Answers

SHAPES = {"encoder.w": (3, 2), "encoder.b": (3,)}
WEIGHTS = {name: np.full(shape, 4.0, np.float32) for name, shape in SHAPES.items()}


class Guard:
    """A federation, and its last round."""

    def __init__(self, **federation) -> None:
        config = FederationConfig(**federation)
        sites = Presence(Answers({}), config, simulated=False)
        state = ServerState(config, SHAPES, WEIGHTS)
        self.federation = Federation(config, sites, state, run_id="0" * 16, handshake={})
        self.bounds, self.current = state.bounds, Round(0)


@pytest.fixture(autouse=True, scope="module")
def identity():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def update(size: float) -> dict[str, np.ndarray]:
    return {name: np.full(shape, size, np.float32) for name, shape in SHAPES.items()}


def reply(images: object, arrays: dict, *, name: str = "", codec="float32") -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({n: Array(a) for n, a in encoded(arrays, codec).items()}),
            "metrics": MetricRecord({"num-examples": images}),
        }
    )
    if name:
        content["site"] = ConfigRecord({"name": name})
    return Message(content, dst_node_id=0, message_type="train")


def merged(guard: Guard, replies: dict[int, Message | None], number=1):
    """The update that a round of these replies brings, whoever is first in the dict is first."""
    before = guard.federation.state.weights
    guard.federation.sites.grid = Answers(replies)
    guard.current = Round(number)
    guard.federation.sample(guard.current)
    guard.federation.train(guard.current)
    assert guard.current.merged
    return {n: value - before[n] for n, value in guard.federation.state.weights.items()}


claims = st.tuples(st.integers(1, 10_000_000), st.floats(-30, 30, width=32))


# --- whoever is first -------------------------------------------------------------------------


RULES = {
    "fedavg": {"kind": "fedavg"},
    "trimmed_mean": {"kind": "trimmed_mean", "beta": 0.34},
    "krum": {"kind": "krum"},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("codec", ["float32", "int8"])
@given(data=st.data(), sites=st.lists(claims, min_size=3, max_size=5))
def test_the_same_replies_give_the_same_weights_bit_for_bit(rule, codec, data, sites):
    settings = {"codec": codec, "strategy": RULES[rule], "quorum": 3}
    replies = {
        node: reply(images, update(size), name=f"site {node % 2}", codec=codec)
        for node, (images, size) in enumerate(sites, 1)
    }
    order = data.draw(st.permutations(list(replies)))
    first, other = Guard(**settings), Guard(**settings)
    one = merged(first, replies)
    two = merged(other, {node: replies[node] for node in order})
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])
    assert first.current.used == other.current.used
    assert set(first.current.set_aside) == set(other.current.set_aside)
    assert set(first.current.capped) == set(other.current.capped)


def test_whoever_claims_the_most_first_has_nobody_else_refused():
    guard = Guard(max_images=2**40, quorum=2)
    got = merged(
        guard, {1: reply(2**40, update(5.0)), 2: reply(10, update(1.0)), 3: reply(10, update(1.0))}
    )
    assert len(guard.current.used) == 3
    assert not guard.current.set_aside
    assert [each.reason for each in guard.current.capped] == ["1099511627776 images count as 100"]
    np.testing.assert_allclose(got["encoder.b"], (100 * 5 + 10 + 10) / 120, rtol=1e-6)


# --- what a lie is worth ----------------------------------------------------------------------


@given(lie=claims, honest=st.lists(st.tuples(st.integers(50, 100), st.floats(0.5, 1)), min_size=3))
def test_a_lie_is_worth_no_more_than_the_bounds(lie, honest):
    guard = Guard()
    replies = {n: reply(images, update(size)) for n, (images, size) in enumerate(honest, 2)}
    got = merged(guard, {1: reply(lie[0], update(lie[1])), **replies})["encoder.b"]
    share = min(10 * 100, lie[0]) / (min(10 * 100, lie[0]) + sum(n for n, _ in honest))
    mean = sum(n * size for n, size in honest) / sum(n for n, _ in honest)
    reach = share * (10 * 1.0 + mean)  # ten times the usual step, the other way
    assert (np.abs(got - mean) <= reach + 1e-5).all()


def test_a_count_of_millions_with_no_update_does_not_wipe_the_round():
    honest = {n: reply(100, update(1.0)) for n in (2, 3, 4)}
    got = merged(Guard(), {1: reply(10_000_000, update(0.0)), **honest})
    np.testing.assert_allclose(got["encoder.b"], 300 / 1300, rtol=1e-5)


def test_of_two_sites_the_smaller_speaks_for_what_is_usual():
    got = merged(Guard(), {1: reply(10_000_000, update(0.0)), 2: reply(100, update(1.0))})
    np.testing.assert_allclose(got["encoder.b"], 100 / 1100, rtol=1e-5)


def test_a_site_with_more_photos_and_longer_steps_is_not_set_aside():
    guard = Guard()
    few = {n: reply(20, update(0.1)) for n in (2, 3, 4)}
    merged(guard, {1: reply(150, update(0.8)), **few})
    assert not guard.current.set_aside
    assert not guard.current.capped


@pytest.mark.parametrize(
    ("images", "size", "words"),
    [
        (10_000_001, 1.0, "10000001 images are more than federation.max_images, 10000000"),
        (10, 1e5, "the update's norm is 3e+05, above 120: 10 times that of the weights"),
        (10, 3e38, "norm is 9e+38, above 120"),
    ],
)
def test_what_no_site_could_send_in_earnest_is_set_aside_with_value_and_bound(images, size, words):
    guard = Guard()
    honest = {n: reply(10, update(1.0)) for n in (2, 3)}
    got = merged(guard, {1: reply(images, update(size), name="clinic"), **honest})
    [aside] = guard.current.set_aside
    assert aside.site == "clinic"
    assert words in aside.reason
    np.testing.assert_allclose(got["encoder.b"], 1.0, rtol=1e-6)


def test_an_int8_step_that_decodes_to_infinity_is_set_aside():
    guard = Guard(codec="int8")
    honest = {n: reply(10, update(1.0), codec="int8") for n in (2, 3)}
    lie = reply(10, update(1.0), codec="int8")
    lie.content["arrays"]["encoder.w/scale"] = Array(np.full(3, 3e38, np.float32))
    merged(guard, {1: lie, **honest})
    assert "norm is inf" in guard.current.set_aside[0].reason


# --- what is usual ----------------------------------------------------------------------------


def two_rounds(guard: Guard, second: float):
    merged(guard, {1: reply(10, update(0.1)), 2: reply(10, update(0.1))})
    return merged(guard, {1: reply(10, update(second)), 2: reply(10, update(0.1))}, number=2)


def test_two_sites_are_compared_with_their_round_before():
    guard = Guard()
    got = two_rounds(guard, 30.0)
    np.testing.assert_allclose(got["encoder.b"], (10 * 0.1 + 0.1) / 2, rtol=1e-5)
    [capped] = guard.current.capped
    assert capped.reason == "norm 90 scaled to 3"
    assert capped.site == "node 1"


@given(sizes=st.lists(st.floats(0, 30, width=32), min_size=1, max_size=12))
def test_a_site_that_lies_for_many_rounds_does_not_move_what_is_usual(sizes):
    """One of two: the honest one's steps shrink as they do in a run."""
    bounds = Bounds(FederationConfig())
    bounds.learn({1: Claim(10, 3.0), 2: Claim(10, 3.0)})
    for number, size in enumerate(sizes):
        bounds.learn({1: Claim(10, 3.0 * 0.9**number), 2: Claim(10, size)})
        assert bounds.usual <= 3.01


@given(
    norms=st.lists(st.floats(0, 1e6), min_size=1, max_size=9), usual=st.none() | st.floats(0, 1e6)
)
def test_half_of_a_round_always_counts_in_full(norms, usual):
    """However odd the others: no bound lies below the usual norm."""
    bounds = Bounds(FederationConfig())
    bounds.usual = usual
    shares = bounds.shares({n: Claim(10, norm) for n, norm in enumerate(norms)})
    known = [*norms, *([] if usual is None else [usual])]
    for number, norm in enumerate(norms):
        if norm <= median_high(known):
            assert shares[number].scale == 1
        if len(known) >= 3:
            assert norm * shares[number].scale <= 10 * median_high(known) * (1 + 1e-9)


def test_what_is_usual_outlives_a_restart():
    before = Guard()
    merged(before, {1: reply(10, update(0.1)), 2: reply(10, update(0.1))})
    memory = before.federation.state.memory()
    after = ServerState.restored(FederationConfig(), SHAPES, WEIGHTS, memory)
    assert after.bounds.usual == before.bounds.usual == pytest.approx(0.3)


# --- one reply, whatever it is ----------------------------------------------------------------


class Broken:
    """A message that fails whoever looks at it."""

    def has_content(self) -> bool:
        raise RuntimeError


@pytest.mark.parametrize("answer", [None, Broken()], ids=["no message", "broken"])
def test_whatever_one_reply_raises_sets_that_reply_aside(answer, caplog):
    guard = Guard()
    honest = {n: reply(10, update(1.0)) for n in (2, 3)}
    with caplog.at_level(logging.WARNING, logger="flwr"):
        got = merged(guard, {1: answer, **honest})
    assert guard.current.set_aside[0].site == "node 1"
    assert "the reply cannot be read" in guard.current.set_aside[0].reason
    np.testing.assert_allclose(got["encoder.b"], 1.0, rtol=1e-6)


def test_a_full_disk_of_our_own_is_no_site_s_fault(monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(Waiting, "put", full)
    with pytest.raises(OSError, match="No space left"):
        merged(Guard(), {n: reply(10, update(1.0)) for n in (1, 2)})


def test_a_site_cannot_hide_behind_the_name_of_another():
    guard = Guard()
    merged(
        guard,
        {
            1: reply(10, update(1.0), name="clinic"),
            2: reply(-1, update(1.0), name="clinic"),
            3: reply(10, update(1.0), name="studio"),
        },
    )
    assert guard.current.used == ("clinic (node 1)", "studio")
    assert guard.current.set_aside[0].site == "clinic (node 2)"


def test_arrays_wait_as_they_came(tmp_path):
    layout = {
        "a": ((2, 3), np.dtype(np.int8)),
        "b": ((), np.dtype(np.float32)),
        "c": ((0,), np.dtype(np.float16)),
    }
    waiting, rng = Waiting(layout, tmp_path), np.random.default_rng(0)
    put = {}
    for site in ("x", "y", "z"):
        put[site] = {
            n: np.asarray(rng.normal(size=shape) * 100).astype(kind)
            for n, (shape, kind) in layout.items()
        }
        waiting.put(site, put[site])
    for site in ("z", "x", "y", "x"):
        for name, value in waiting.get(site).items():
            np.testing.assert_array_equal(value, put[site][name])
            assert value.dtype == put[site][name].dtype
    waiting.close()
    assert not list(tmp_path.iterdir())


def test_the_norm_is_that_of_all_numbers_together():
    assert norm_of({"a": np.float32([3.0]), "b": np.float32([[4.0]])}) == pytest.approx(5)
    assert norm_of({}) == 0
    assert norm_of(update(3e38)) == pytest.approx(9e38, rel=1e-6)


def test_bounds_below_one_are_no_bounds():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        FederationConfig(max_norm_ratio=0.5)
    with pytest.raises(FederationError, match="max_images, 5"):
        Bounds(FederationConfig(max_images=5)).check_images(6)
