"""Overrides travel to Flower's processes as one line of text."""

from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.config.load import split_overrides
from simulations.run import _quoted

words = st.text(alphabet="abc.=1 '\"\\{}:", min_size=1, max_size=12).filter(str.strip)


@given(items=st.lists(words, max_size=4))
def test_overrides_survive_the_trip_through_one_line(items):
    assert split_overrides(" ".join(_quoted(item) for item in items)) == items
