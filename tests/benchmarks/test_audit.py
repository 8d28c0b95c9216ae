"""The audit: attacks that must fail where something is promised, and work where nothing is."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.audit.distinguish import CHEATED, DRAWN, STILL, Guess, distinguish
from benchmarks.audit.leaks import Leaks, among_eight, code_of_one_photo
from benchmarks.audit.one_photo import gradient_error, influence
from benchmarks.audit.photos import extremes
from benchmarks.audit.questions import Asked, ask_for_scores
from benchmarks.audit.report import to_json, to_markdown
from benchmarks.audit.run import Audit
from benchmarks.audit.scores import Told, auc, least_epsilon, told

values = st.lists(st.integers(-5, 5), min_size=1, max_size=12).map(np.array)


@given(members=values, others=values)
def test_the_area_is_the_chance_to_rank_a_member_higher(members, others):
    slow = np.mean([(m > o) + 0.5 * (m == o) for m in members for o in others])
    assert auc(members, others) == pytest.approx(slow)
    assert auc(members, others) == pytest.approx(1 - auc(others, members))


def test_who_is_told_apart_for_sure_and_who_not_at_all():
    rng = np.random.default_rng(0)
    sure = told(rng.normal(10, 1, 300), rng.normal(0, 1, 300))
    assert (sure.auc, sure.auc_between, sure.at_one_percent) == (1.0, (1.0, 1.0), 1.0)
    none = told(rng.normal(0, 1, 300), rng.normal(0, 1, 300))
    assert none.auc_between[0] < 0.5 < none.auc_between[1]
    assert none.at_one_percent < 0.05


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 3.0])
def test_the_proved_epsilon_is_below_the_true_one_of_randomised_response(epsilon):
    """A bit that is told truly with probability e^eps / (1 + e^eps) has exactly that epsilon."""
    rng, truth = np.random.default_rng(1), math.exp(epsilon) / (1 + math.exp(epsilon))
    proved = [
        least_epsilon(
            (rng.random(400) < truth) + rng.random(400) / 2,
            (rng.random(400) >= truth) + rng.random(400) / 2,
            delta=0.0,
        )
        for _ in range(40)
    ]
    assert np.mean(np.array(proved) > epsilon) <= 0.125
    if epsilon >= 1:
        assert np.mean(proved) > 0.4 * epsilon


@pytest.mark.slow
def test_rounds_on_two_shards_are_told_apart_no_better_than_epsilon_says():
    """Of the real thing; and the guesser is good enough to convict one with too little noise."""
    for honest in (distinguish(DRAWN, 40), distinguish(STILL, 40)):
        assert honest.least <= honest.claimed < 1.2
    cheated = distinguish(CHEATED, 60)
    assert cheated.least > cheated.claimed


def test_one_photo_of_a_large_batch_moves_it_by_no_more_than_the_bound():
    assert 0.9 < influence("vae", "plain", size=32, count=17, tries=2) <= 1.001


def test_gradients_are_those_of_single_photos():
    assert max(gradient_error(kind, size=64) for kind in ("ae", "vae")) < 1e-3


def test_crafted_questions_are_answered_with_noise_and_charged_and_end():
    asked = ask_for_scores(40)
    assert 0 < asked.answered < 8
    assert asked.charged == asked.answered


def test_a_photo_that_is_not_there_leaves_the_others_their_numbers():
    photos = extremes(5, 32, seed=0)
    assert photos.without(0).rows("train").tolist() == [1, 2, 3, 4]
    assert photos.only(np.arange(1, 5)).rows("train").tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_weights_alone_promise_nothing_and_the_page_may_say_so():
    """One photo and one step give the code away; eight photos and one step, who took part."""
    assert code_of_one_photo("muon", seed=0) > 0.9
    assert among_eight(seed=0, others=40).auc > 0.95


def test_the_tables_hold_what_was_measured():
    some = Told(0.7, (0.6, 0.8), 0.2, 10, 10)
    audit = Audit(
        {"ae, plain": 0.9, "vae, plain": 1.0},
        {"64 px": 1e-5},
        [Guess(STILL.name, 1.0, 0.1, 0.52, 60)],
        Asked(60, 0, 0),
        Leaks({"muon": 0.98}, some, {"Muon": some}),
    )
    page = to_markdown(audit)
    for words in ("1.0000 | 1", "1e-05", "0.10 | 1.00", "AUC 0.52", "0.980", "0.70 [0.60, 0.80]"):
        assert words in page
    assert json.loads(json.dumps(to_json(audit)))["asked"]["questions"] == 60
