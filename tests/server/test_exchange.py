"""Each reply is fetched alone, taken when it comes, and blamed on the node that was asked."""

from __future__ import annotations

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError

from facemorph_core.errors import FederationError, OutputError
from server.exchange import exchange
from tests.server.grids import Answers, Clock


@pytest.fixture(autouse=True)
def identity():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def question(node: int) -> Message:
    return Message(RecordDict(), dst_node_id=node, message_type="train")


class Slow(Clock):
    """A grid whose reply number n comes at the n-th of ``times``; time passes by sleeping."""

    def __init__(self, times: list[float], broken: dict[int, Exception]) -> None:
        super().__init__()
        self.times, self.broken = times, broken

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


def taken(times: list[float], timeout: float, broken=None) -> tuple[list[tuple], dict, Slow]:
    """(node, time) of each reply, in the order of arrival; the faults; the grid."""
    grid, came = Slow(times, broken or {}), []
    faults = exchange(
        grid,
        range(len(times)),
        question,
        lambda node, reply: came.append((node, grid.now)),
        timeout,
        clock=grid,
    )
    return came, faults, grid


def test_each_reply_is_taken_when_it_comes_and_is_that_of_the_node_asked():
    times = [0.0, 5.0, 1.0, *[2.0] * 20]
    came, faults, _ = taken(times, timeout=100)
    assert sorted(node for node, _ in came) == list(range(len(times)))
    assert faults == {}
    for node, when in came:
        assert times[node] <= when <= times[node] + 0.3


@pytest.mark.parametrize(
    "error", [ValueError(), KeyError("x"), RecursionError(), MemoryError(), DecodeError()]
)
def test_a_reply_of_which_flower_makes_no_message_costs_only_itself(error):
    came, faults, _ = taken([0.0, 0.0, 0.0, 1.0], timeout=100, broken={1: error})
    assert [node for node, _ in came] == [0, 2, 3]
    assert faults == {1: "the reply cannot be read"}


def test_a_network_that_fails_is_no_site_s_fault():
    with pytest.raises(ConnectionError):
        taken([0.0], timeout=100, broken={0: ConnectionError()})


def test_nobody_is_waited_for_beyond_the_timeout():
    came, faults, grid = taken([0.0, 1.0, 1e9], timeout=10)
    assert len(came) == 2
    assert faults == {2: "no answer within 10 s"}
    assert 10 <= grid.now < 11


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FederationError("too many images"), "keys: too many images"),
        (RuntimeError("/home/clinic"), "keys: the reply cannot be read (RuntimeError)"),
    ],
)
def test_what_is_wrong_with_a_reply_is_said_of_its_node_and_of_no_other(error, reason):
    def take(node: int, reply: Message) -> None:
        if node == 2:
            raise error

    grid = Answers({node: question(node) for node in (1, 2, 3)})
    assert exchange(grid, [1, 2, 3], question, take, 1.0, about="keys: ") == {2: reason}


@pytest.mark.parametrize("error", [OutputError("full"), OSError("full")])
def test_a_full_disk_of_our_own_ends_the_exchange(error):
    def take(node: int, reply: Message) -> None:
        raise error

    with pytest.raises(type(error), match="full"):
        exchange(Answers({1: question(1)}), [1], question, take, 1.0)


def test_whom_flower_sends_nothing_to_is_not_waited_for():
    class Lost(Slow):
        def push_messages(self, messages):
            return [None for _ in super().push_messages(messages)]

    grid = Lost([0.0], {})
    faults = exchange(grid, [0], question, lambda node, reply: None, 5.0, clock=grid)
    assert faults == {0: "no answer within 5 s"}
    assert grid.now == 0
    assert exchange(grid, [], question, lambda node, reply: None, 5.0, clock=grid) == {}
