"""One vocabulary for both ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.errors import FederationError
from facemorph_core.learning.federated import Handshake, wire
from facemorph_core.learning.privacy import Spent

RUN = "0123456789abcdef"


@given(number=st.integers(1, 10**6), mu=st.floats(0, 10))
def test_what_is_asked_for_arrives(number, mu):
    request = wire.Request(RUN, number, mu)
    assert wire.Request.parse(request.as_record()) == request


def test_the_words_of_a_question_are_each_said_by_one():
    """Request and handshake travel in one record, figures and what was spent in another."""
    request = wire.Request(RUN, 1, 0.5).as_record()
    assert request == {"run-id": RUN, "server-round": 1, "proximal-mu": 0.5}
    assert not set(request) & set(Handshake("1", "2", "3", "4").as_strings())
    assert list(Spent(1.0, 1e-5).as_record()) == [wire.EPSILON, wire.DELTA]


@pytest.mark.parametrize("run", ["../../etc", "", 7, None, "0" * 65])
def test_a_run_id_that_could_be_a_path_is_refused(run):
    with pytest.raises(FederationError, match="unusable run id"):
        wire.Request.parse({wire.RUN_ID: run, wire.ROUND: 1})


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "1", None])
def test_a_round_that_cannot_be_is_refused(number):
    with pytest.raises(FederationError, match="unusable round number"):
        wire.Request.parse({wire.RUN_ID: RUN, wire.ROUND: number})
