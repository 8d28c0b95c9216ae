"""What sites are called, whatever they say."""

from __future__ import annotations

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from server.names import SERVER, SiteNames


@pytest.fixture(autouse=True, scope="module")
def identity():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def saying(name: str) -> Message:
    content = RecordDict({"site": ConfigRecord({"name": name})})
    return Message(content, dst_node_id=0, message_type="train")


def test_a_site_whose_key_has_a_name_has_it_before_it_answers():
    names = SiteNames()
    names.see([NodeInfo(node_id=9499, name="clinic-b"), NodeInfo(node_id=7)])
    assert names.of(9499) == "clinic-b"
    assert names.of(7) == "node 7"


def test_a_name_that_belongs_to_a_key_cannot_be_taken_by_a_site_that_calls_itself_so():
    names = SiteNames()
    names.see([NodeInfo(node_id=2, name="clinic-b")])
    names.note(1, saying("clinic-b"))
    names.note(2, saying("somebody else"))
    assert names.of(2) == "clinic-b"
    assert names.of(1) == "clinic-b (node 1)"


@pytest.mark.parametrize("name", [SERVER, "node 17", "clinic-a (node 99)"])
def test_what_we_call_sites_and_ourselves_is_no_name_of_one_s_own(name):
    names = SiteNames()
    names.note(1, saying(name))
    assert names.of(1) == "node 1"


def test_a_key_that_was_registered_anew_has_its_name_to_itself():
    names = SiteNames()
    names.see([NodeInfo(node_id=1, name="clinic-a"), NodeInfo(node_id=2, name="clinic-b")])
    names.see([NodeInfo(node_id=2, name="clinic-b")])
    assert names.of(1) == "clinic-a"  # away
    names.see([NodeInfo(node_id=2, name="clinic-b"), NodeInfo(node_id=3, name="clinic-a")])
    assert names.of(3) == "clinic-a"
    assert names.of(1) == "node 1"


@given(
    registered=st.dictionaries(st.integers(1, 6), st.sampled_from(["", "a", "b"])),
    said=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["a", "b", SERVER, "node 3", "a (node 2)"]))
    ),
    order=st.randoms(),
)
def test_no_two_sites_are_called_the_same_whoever_is_first(registered, said, order):
    last = dict(said)  # what a site said last counts
    nodes, shuffled = (
        [NodeInfo(node_id=n, name=name) for n, name in registered.items()],
        SiteNames(),
    )
    names = SiteNames()
    names.see(nodes)
    for node, name in last.items():
        names.note(node, saying(name))
    for node, name in order.sample(sorted(last.items()), len(last)):
        shuffled.note(node, saying(name))
    shuffled.see(nodes)
    shown = [names.of(node) for node in range(1, 7)]
    assert len(set(shown)) == len(shown)
    assert SERVER not in shown
    assert shown == [shuffled.of(node) for node in range(1, 7)]
