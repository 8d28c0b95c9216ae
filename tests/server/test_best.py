from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.best import best_round, far_below, judged

SECTIONS = {"server": "psnr", "sites": "psnr", "training": "loss"}


def entries(section, values, *, first=1):
    name = SECTIONS[section]
    return [{"round": first + i, section: {name: value}} for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("rounds", "best"),
    [
        (entries("server", [20, 25, 24]), 2),
        (entries("sites", [20, 25, 26]), 3),
        (entries("training", [0.3, 0.1, 0.2]), 2),
        (entries("server", [20, 20]), 1),
        (entries("server", [30, 20], first=0), 1),
        ([*entries("sites", [40]), *entries("server", [20], first=2)], 2),
        ([*entries("training", [0.0]), *entries("sites", [20], first=2)], 2),
        (entries("server", [math.nan, math.inf, -math.inf, 3]), 4),
        (entries("training", [math.nan, -math.inf, 3]), 3),
        (entries("server", [math.nan]) + entries("sites", [3], first=2), 2),
        (entries("sites", [1e12, 100.1, -1, 10**400, True, 3]), 6),
        (entries("training", [-1e9, -(10**400), 10**400, True, 3]), 5),
        (entries("sites", [1e12, 10**400]) + entries("training", [3], first=3), 3),
    ],
)
def test_the_best_round_is_that_of_the_first_measure_there_is(rounds, best):
    assert best_round(rounds).round == best


@pytest.mark.parametrize(
    "rounds",
    [
        [],
        [{}],
        [{"round": 1}],
        [{"round": 1, "server": {}, "sites": {}, "training": {"epsilon": 1.0}}],
        [{"round": "1", "server": {"psnr": 3}}],
        [{"round": 1, "server": {"psnr": "3"}, "sites": [3], "training": None}],
        entries("server", [math.nan]),
    ],
)
def test_where_no_figure_judges_no_round_is_the_best(rounds):
    assert best_round(rounds) is None


values = st.lists(st.floats(-50, 50) | st.just(math.nan), max_size=8)


@given(first=values, second=values)
def test_what_is_not_the_best_of_all_is_never_missed_when_it_is_gone(first, second):
    """So it is enough to keep the best so far."""
    seen = entries("server", first)
    after = entries("server", second, first=len(first) + 1)
    kept = best_round(seen)
    shortened = [each for each in seen if kept and each["round"] == kept.round]
    assert best_round([*shortened, *after]) == best_round([*seen, *after])


def test_a_fall_of_more_than_three_decibels_is_far():
    best = best_round(entries("server", [25.0]))
    assert far_below({"round": 2, "server": {"psnr": 21.9}}, best).round == 2
    assert far_below({"round": 2, "server": {"psnr": 22.1}}, best) is None
    assert far_below({"round": 2, "sites": {"psnr": 1.0}}, best) is None
    assert far_below({"round": 2}, best) is None
    loss = best_round(entries("training", [0.1]))
    assert far_below({"round": 2, "training": {"loss": 9.0}}, loss) is None


def test_a_round_is_told_with_its_measure_and_unit():
    assert str(judged({"round": 1, "sites": {"psnr": 21.234}})) == "PSNR at the sites 21.23 dB"
    assert str(judged({"round": 1, "training": {"loss": 0.5}})) == "training loss 0.5"
