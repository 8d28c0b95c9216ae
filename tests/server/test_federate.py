"""Who is asked in a round, how long is waited, and what the round makes of it. The real apps are in
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
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.config.schema import FederationConfig, RunConfig
from facemorph_core.errors import FederationError, OutputError
from facemorph_core.learning.privacy import Spent, Told, read_told
from server.federate import Federation, Phase
from server.presence import Presence
from server.records import packed
from server.round import Round
from server.spending import Spending, log_told
from server.state import ServerState
from tests.server.grids import Answers, Clock

WEIGHTS = {"encoder.a": np.zeros(3, np.float32)}
SHAPES = {"encoder.a": (3,)}


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


@pytest.fixture(autouse=True, scope="module")
def identity():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def federation(
    grid, clock, *, simulated: bool, spending=None, made=Federation, **settings
) -> Federation:
    config = FederationConfig(**settings)
    return made(
        config,
        Presence(grid, config, simulated=simulated, clock=clock),
        ServerState(config, SHAPES, WEIGHTS),
        run_id="0" * 16,
        handshake={"core_version": "1"},
        spending=spending,
        rng=random.Random(0),
    )


def sampled(whole: Federation, number: int = 1) -> Round:
    this = Round(number)
    whole.sample(this)
    return this


def asked(times: list[float], *, simulated: bool, **settings) -> tuple[list[int], float]:
    """The nodes that are asked in round 1, and when; node ``n`` comes at the ``n``-th time."""
    clock = Clock()
    sites = Sites(clock, [[(time, math.inf)] for time in times])
    whole = federation(sites, clock, simulated=simulated, **settings)
    return sorted(sampled(whole).asked), clock.now


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
    sites = Sites(clock, [[(0, math.inf)], [(150, math.inf)]])
    whole = federation(
        sites, clock, simulated=False, quorum=2, join_deadline=60, max_failed_rounds=3
    )
    first = whole.hold(1)
    assert first.asked == ()
    assert first.present == 1
    assert not first.merged
    [failure] = first.set_aside
    assert failure.site == "the server"
    assert failure.reason == "1 sites after 60 s, 2 are needed"
    assert whole.hold(2).asked == ()
    assert sorted(sampled(whole, 3).asked) == [1, 2]


def test_sites_that_stay_away_end_the_run_with_the_reason():
    clock, kept = Clock(), []
    whole = federation(
        Sites(clock, []), clock, simulated=False, quorum=2, join_deadline=60, max_failed_rounds=2
    )
    with pytest.raises(FederationError, match="0 sites after 60 s, 2 are needed"):
        whole.run(range(1, 9), lambda done, state: kept.append(done.number))
    assert kept == [1]


@pytest.mark.parametrize("trained", [True, False])
def test_the_last_round_of_a_run_without_a_result_does_not_count(trained):
    """However often it is started; after a round that was merged, a last one may fail."""
    clock = Clock()
    whole = federation(
        Sites(clock, []), clock, simulated=False, quorum=2, join_deadline=60, rounds=3
    )
    whole.trained = trained
    with (
        contextlib.nullcontext()
        if trained
        else pytest.raises(FederationError, match="round 3: 0 usable replies of 2")
    ):
        assert not whole.hold(3).merged
    assert whole.state.weights is WEIGHTS


@given(nodes=st.integers(1, 40), fraction=st.floats(0.01, 1), quorum=st.integers(1, 40))
def test_a_sample_is_distinct_present_and_no_smaller_than_the_quorum(nodes, fraction, quorum):
    chosen, _ = asked([0.0] * nodes, simulated=True, quorum=quorum, fraction=fraction)
    assert all(a < b for a, b in pairwise(chosen))
    assert set(chosen) <= set(range(1, nodes + 1))
    assert len(chosen) == max(min(quorum, nodes), round(fraction * nodes))


# --- what a round makes of it ------------------------------------------------------------------


def update(images: int, value: np.ndarray, question: Message) -> Message:
    return Message(
        RecordDict(
            {
                "arrays": ArrayRecord({"encoder.a": Array(value.astype(np.float32))}),
                "metrics": MetricRecord({"num-examples": images, "loss": float(images)}),
            }
        ),
        dst_node_id=question.metadata.dst_node_id,
        message_type="train",
    )


def pulling(images: int, target: np.ndarray):
    """A site whose training goes half the way to its own optimum."""

    def answer(question: Message) -> Message:
        weights = question.content["arrays"]["encoder.a"].numpy()
        return update(images, 0.5 * (target - weights), question)

    return answer


honest = st.tuples(st.integers(50, 100), st.lists(st.floats(2, 4), min_size=3, max_size=3))


@given(sites=st.lists(honest, min_size=2, max_size=6))
def test_the_rounds_are_federated_averaging(sites):
    """A slow and obvious one: the mean of the sites' weights, by images."""
    answers = {n: pulling(images, np.array(at)) for n, (images, at) in enumerate(sites, 1)}
    whole = federation(
        Answers(answers), Clock(), simulated=False, quorum=len(sites), evaluate_every=0
    )
    kept: list[Round] = []
    whole.run(range(1, 4), lambda done, state: kept.append(done))

    slow = np.zeros(3)
    total = sum(images for images, _ in sites)
    for _ in range(3):
        trained = [(images, slow + 0.5 * (np.array(at) - slow)) for images, at in sites]
        slow = sum(images * weights for images, weights in trained) / total
    np.testing.assert_allclose(whole.state.weights["encoder.a"], slow, rtol=1e-5)
    for number, done in enumerate(kept, 1):
        assert (done.number, done.merged, len(done.used)) == (number, True, len(sites))
        assert done.training.examples == total
        assert not done.set_aside


class Twice(Federation):
    """Trains as others do, after two exchanges of its own: as masked sums will need them."""

    def train(self, this: Round) -> None:
        heard: dict[str, list[int]] = {"keys": [], "shares": []}
        for name, nodes in heard.items():
            phase = Phase("training", f"train.{name}", about=f"{name}: ")
            question = self.question(this, packed({}))

            def take(node: int, reply: Message, nodes: list[int] = nodes) -> None:
                if reply.has_error():
                    raise FederationError(f"no {reply.error.reason}")
                nodes.append(node)

            self.ask(this, phase, this.asked, question, take)
            this.asked = nodes
        super().train(this)


def test_a_round_may_be_of_as_many_exchanges_as_it_needs():
    """Whoever fails in one is asked nothing in the next, and blamed once."""

    def answer(question: Message) -> Message | None:
        kind, node = question.metadata.message_type, question.metadata.dst_node_id
        if (kind, node) == ("train.keys", 1):
            return Message(Error(1, "key"), reply_to=_received(question))
        if (kind, node) == ("train.shares", 2):
            return None
        return update(10, np.full(3, float(node)), question)

    grid = Answers(dict.fromkeys(range(1, 6), answer))
    whole = federation(grid, Clock(), simulated=False, made=Twice, quorum=3, deadline=3)
    this = sampled(whole)
    whole.train(this)
    nodes_of = {
        kind: sorted(m.metadata.dst_node_id for m in grid.asked if m.metadata.message_type == kind)
        for kind in ("train.keys", "train.shares", "train")
    }
    assert nodes_of == {
        "train.keys": [1, 2, 3, 4, 5],
        "train.shares": [2, 3, 4, 5],
        "train": [3, 4, 5],
    }
    assert this.set_aside == [
        ("node 1", "keys: no key"),
        ("node 2", "no answer within 3 s"),
    ]
    assert this.used == ("node 3", "node 4", "node 5")
    np.testing.assert_array_equal(whole.state.weights["encoder.a"], 4.0)


def _received(question: Message) -> Message:
    """The question with an id, as it would come over a network."""
    question.metadata.__dict__["_message_id"] = question.object_id
    return question


def test_nothing_of_a_round_is_there_in_the_next():
    """A site that was bad or away in one round is as good as others after it."""
    bad = pulling(0, np.ones(3))
    good = pulling(10, np.ones(3))
    grid = Answers({1: bad, 2: good, 3: good})
    whole = federation(grid, Clock(), simulated=False, quorum=3, max_failed_rounds=2)
    first = whole.hold(1)
    assert (first.merged, len(first.set_aside)) == (False, 1)
    grid.answers = dict.fromkeys((1, 2, 3), good)
    second = whole.hold(2)
    assert second.used == ("node 1", "node 2", "node 3")
    assert not [each for each in second.set_aside if not each.reason.startswith("scores")]
    assert whole.failed_in_a_row == 0


@pytest.mark.parametrize("before", [0, 2])
def test_weights_that_will_not_do_leave_nothing_in_the_rule(before, monkeypatch):
    """FedAdam's moments are those of the rounds that brought something."""
    grid = Answers(dict.fromkeys((1, 2), pulling(10, np.ones(3))))
    adam = {"kind": "fedadam", "learning_rate": 0.1}
    whole = federation(grid, Clock(), simulated=False, quorum=2, strategy=adam, evaluate_every=0)
    for number in range(1, before + 1):
        assert whole.hold(number).merged
    kept = whole.state.memory()
    with monkeypatch.context() as patch:
        patch.setattr("server.federate.weights_problem", lambda *_: "not finite")
        failed = whole.hold(before + 1)
    assert [each.reason for each in failed.set_aside] == ["the merged weights: not finite"]
    after = whole.state.memory()
    assert after.keys() == kept.keys()
    assert all(np.array_equal(after[name], kept[name]) for name in kept)


def test_a_running_mean_begins_with_the_first_merge_also_after_a_kill():
    config = FederationConfig(ema_decay=0.9)
    fresh = ServerState(config, SHAPES, WEIGHTS)
    again = ServerState.restored(config, SHAPES, fresh.released, fresh.memory())
    for state in (fresh, again):
        state.advance({"encoder.a": np.ones(3, np.float32)})
    np.testing.assert_array_equal(again.released["encoder.a"], fresh.released["encoder.a"])


def test_a_question_says_the_words_that_both_ends_know():
    grid = Answers({1: pulling(10, np.ones(3))})
    whole = federation(
        grid, Clock(), simulated=False, quorum=1, strategy={"kind": "fedprox", "mu": 0.1}
    )
    whole.hold(7)
    training, scores = (dict(message.content["config"]) for message in grid.asked)
    assert training.pop("proximal-mu") == 0.1
    assert (
        training
        == scores
        == {
            "run-id": "0" * 16,
            "server-round": 7,
            "core_version": "1",
        }
    )
    assert [m.metadata.message_type for m in grid.asked] == ["train", "evaluate"]


# --- what sites spend --------------------------------------------------------------------------


def telling(question: Message) -> Message:
    """An answer that tells no more than epsilon."""
    told = RecordDict({"metrics": MetricRecord({"epsilon": 2.0, "delta": 1e-5})})
    return Message(told, dst_node_id=1, message_type="train")


def private(run: Path, answers) -> Federation:
    """Two sites that are there, under differential privacy."""
    spending = Spending(run, Spent(8.0, 1e-5))
    return federation(Answers(answers), Clock(), simulated=True, sites=2, spending=spending)


def test_questions_are_written_down_before_they_leave_and_answers_before_they_are_judged(tmp_path):
    before = []

    def answer(question: Message) -> Message:
        before.append(read_told(tmp_path))
        return telling(question)

    whole = private(tmp_path, {1: answer, 2: lambda question: None})
    this = sampled(whole)
    whole.train(this)
    assert before == [Told({}, ("node 1", "node 2"), asked=True)]
    assert [item.site for item in this.set_aside] == ["node 1", "node 2"]
    assert read_told(tmp_path) == Told({1e-5: 2.0}, ("node 2",), asked=True)
    assert this.line({})["training"] == {"epsilon": 2.0, "delta": 1e-5}


def test_what_a_killed_simulation_left_open_is_closed_once_all_its_sites_tell(tmp_path):
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
    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    def answer(question: Message) -> Message:
        monkeypatch.setattr("facemorph_core.learning.privacy.told.append_entry", full)
        return telling(question)

    whole = private(tmp_path, {1: answer, 2: answer})
    this = sampled(whole)
    with pytest.raises(OutputError):
        whole.train(this)
    assert not this.set_aside
