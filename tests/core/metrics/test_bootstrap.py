import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.metrics import interval_of_difference, interval_of_mean
from facemorph_core.metrics.bootstrap import Interval

finite = st.floats(-1e3, 1e3, allow_nan=False)
scored = st.lists(st.tuples(finite, st.sampled_from("abcdefgh")), min_size=2, max_size=30)


@settings(max_examples=40)
@given(scored=scored)
def test_the_mean_is_the_mean_and_lies_between_the_extremes(scored):
    values, people = map(list, zip(*scored, strict=True))
    interval = interval_of_mean(values, people, resamples=50)
    assert interval.mean == pytest.approx(np.mean(values))
    if len(set(people)) > 1:
        assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_it_is_a_slow_resampling_of_people():
    rng = np.random.default_rng(0)
    people = np.array(list("aabbbbcdde"))
    values = rng.normal(size=len(people))
    means = []
    for _ in range(4000):
        drawn = rng.choice(np.unique(people), 5)
        means.append(np.concatenate([values[people == person] for person in drawn]).mean())
    fast = interval_of_mean(values, people, resamples=4000)
    np.testing.assert_allclose([fast.low, fast.high], np.quantile(means, [0.025, 0.975]), atol=0.05)


def test_it_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.normal(size=40), 5) + 0.1 * rng.normal(size=200)
        interval = interval_of_mean(values, np.repeat(np.arange(40).astype(str), 5), resamples=300)
        covered += interval.low <= 0 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_photos_of_one_person_are_not_independent():
    values = np.repeat(np.arange(10.0), 20)
    people = np.repeat(np.arange(10).astype(str), 20)
    clustered = interval_of_mean(values, people)
    naive = interval_of_mean(values, np.arange(200).astype(str))
    assert clustered.high - clustered.low > 3 * (naive.high - naive.low)


def test_the_same_seed_gives_the_same_interval():
    values, people = np.arange(20.0), np.arange(20).astype(str)
    assert interval_of_mean(values, people) == interval_of_mean(values, people)
    assert interval_of_mean(values, people, seed=1) != interval_of_mean(values, people)


def test_the_order_of_the_photos_does_not_matter():
    values, people = np.arange(12.0), np.array(list("abcabcabcabc"))
    order = np.random.default_rng(0).permutation(12)
    a = interval_of_mean(values, people)
    b = interval_of_mean(values[order], people[order])
    np.testing.assert_allclose([a.mean, a.low, a.high], [b.mean, b.low, b.high])


def test_a_paired_difference_is_narrower_than_either_mean():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(30).astype(str), 3)
    theirs = 20 + 2 * rng.normal(size=90)
    ours = theirs + 0.5 + 0.1 * rng.normal(size=90)
    difference = interval_of_difference(ours, theirs, people)
    alone = interval_of_mean(ours, people)
    assert 0.4 < difference.low < difference.mean < difference.high < 0.6
    assert difference.high - difference.low < (alone.high - alone.low) / 5


def test_many_people_do_not_fit_in_one_draw(monkeypatch):
    monkeypatch.setattr("facemorph_core.metrics.bootstrap.DRAWS_AT_ONCE", 64)
    values = np.random.default_rng(0).normal(size=100)
    interval = interval_of_mean(values, np.arange(100).astype(str), resamples=500)
    assert interval.low < interval.mean < interval.high


def test_one_person_or_a_perfect_copy_has_no_interval():
    alone = interval_of_mean([1.0, 2.0], ["anna", "anna"])
    assert alone.mean == 1.5
    assert np.isnan([alone.low, alone.high]).all()
    perfect = interval_of_mean([np.inf, 20.0], ["anna", "ben"])
    assert perfect.mean == np.inf
    assert np.isnan([perfect.low, perfect.high]).all()


def test_equal_scores_leave_no_doubt():
    assert interval_of_mean([2.0] * 4, list("aabc")) == Interval(2.0, 2.0, 2.0)


def test_one_person_per_value_is_needed():
    with pytest.raises(ValueError, match="one value and one person per photo"):
        interval_of_mean([1.0, 2.0], ["anna"])
    with pytest.raises(ValueError, match="one value and one person per photo"):
        interval_of_mean([], [])
