import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.metrics.distribution import (
    Moments,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
    kernel_sums,
    moments,
)

seeds = st.integers(0, 1000)


def sets(seed: int, *, n: int = 40, m: int = 30, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d))
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) @ mixing + rng.normal(size=d)


def rotation(seed: int, d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


# --- Fréchet distance ------------------------------------------------------------------------


@settings(max_examples=25)
@given(seed=seeds)
def test_it_is_the_textbook_formula(seed):
    a, b = sets(seed)
    covariances = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    truth = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(truth, rel=1e-9)


@settings(max_examples=25)
@given(seed=seeds)
def test_a_set_is_not_away_from_itself_and_order_does_not_matter(seed):
    a, b = sets(seed)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a[::-1], b) == pytest.approx(frechet_distance(a, b))


def test_gaussians_with_a_closed_form():
    """Covariances that commute: the distance is that of means and of standard deviations."""
    mean = np.array([1.0, -2.0, 0.5])
    deviations = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 3.0])
    turn = rotation(0, 3)
    one, other = (turn @ np.diag(spread**2) @ turn.T for spread in deviations)
    found = gaussian_distance(Moments(np.zeros(3), one), Moments(mean, other))
    assert found == pytest.approx((mean**2).sum() + np.square(deviations[0] - deviations[1]).sum())


def test_many_draws_of_two_gaussians_come_near_their_distance():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20_000, 3)), 2 * rng.normal(size=(20_000, 3)) + 1
    assert frechet_distance(a, b) == pytest.approx(3 * 1 + 3 * 1, rel=0.03)


@settings(max_examples=25)
@given(seed=seeds)
def test_turning_and_moving_both_sets_changes_nothing(seed):
    a, b = sets(seed)
    turn, shift = rotation(seed, 6), np.arange(6.0)
    moved = frechet_distance(a @ turn + shift, b @ turn + shift)
    assert moved == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * frechet_distance(a, b))


def test_fewer_pictures_than_features_are_no_obstacle():
    a, b = sets(0, n=8, m=5, d=32)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


def test_a_picture_taken_twice_is_two_pictures():
    a, _ = sets(0, n=5)
    times = np.array([2, 0, 1, 3, 1])
    weighted, repeated = moments(a, times), moments(np.repeat(a, times, axis=0))
    np.testing.assert_allclose(weighted.mean, repeated.mean)
    np.testing.assert_allclose(weighted.covariance, repeated.covariance)


def test_one_picture_is_no_set():
    with pytest.raises(ValueError, match="two pictures at least"):
        moments(np.zeros((1, 4)))


# --- kernel distance -------------------------------------------------------------------------


def slow_kernel_distance(a, b, groups_a, groups_b) -> float:
    def kernel(x, y) -> float:
        return (x @ y / len(x) + 1) ** 3

    def within(x, groups) -> float:
        pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if groups[i] != groups[j]]
        return np.mean([kernel(x[i], x[j]) for i, j in pairs])

    between = np.mean([kernel(x, y) for x in a for y in b])
    return within(a, groups_a) + within(b, groups_b) - 2 * between


@settings(max_examples=10)
@given(seed=seeds)
def test_it_is_the_mean_over_pairs_of_different_groups(seed):
    a, b = sets(seed, n=9, m=7)
    groups = np.array(list("aabbccccd")), np.array([3, 1, 1, 2, 3, 3, 0])
    truth = slow_kernel_distance(a, b, *groups)
    found = kernel_distance(a, b, groups_one=groups[0], groups_other=groups[1])
    assert found == pytest.approx(truth)
    alone = slow_kernel_distance(a, b, range(9), range(7))
    assert kernel_distance(a, b) == pytest.approx(alone)


def test_rows_of_the_kernel_in_parts_are_the_whole(monkeypatch):
    a, b = sets(0)
    whole = kernel_distance(a, b)
    monkeypatch.setattr("facemorph_core.metrics.distribution.KERNEL_ROWS", 7)
    assert kernel_distance(a, b) == pytest.approx(whole)


@settings(max_examples=25)
@given(seed=seeds)
def test_order_and_turning_do_not_matter(seed):
    a, b = sets(seed)
    turn = rotation(seed, 6)
    assert kernel_distance(a, b) == pytest.approx(kernel_distance(b, a))
    assert kernel_distance(a @ turn, b @ turn) == pytest.approx(kernel_distance(a, b))


def test_two_samples_of_one_distribution_are_at_0_on_average():
    rng = np.random.default_rng(0)
    found = [kernel_distance(*rng.normal(size=(2, 20, 4))) for _ in range(400)]
    assert np.mean(found) == pytest.approx(0, abs=3 * np.std(found) / 20)
    assert min(found) < 0


def test_likeness_within_a_group_does_not_count():
    """Four photos of each person, nearly alike: without groups the sets seem apart."""
    rng = np.random.default_rng(0)
    grouped, naive = [], []
    groups = np.repeat(np.arange(6), 4)
    for _ in range(400):
        one, other = (np.repeat(rng.normal(size=(6, 4)), 4, axis=0) for _ in range(2))
        grouped.append(kernel_distance(one, other, groups_one=groups, groups_other=groups))
        naive.append(kernel_distance(one, other))
    assert np.mean(grouped) == pytest.approx(0, abs=3 * np.std(grouped) / 20)
    assert np.mean(naive) > 10 * abs(np.mean(grouped))


def test_a_group_drawn_twice_weighs_twice():
    a, b = sets(0, n=6, m=4)
    groups, times = np.array([0, 0, 1, 1, 2, 2]), np.array([2, 0, 1])
    sums = kernel_sums(a, b, groups_one=groups)
    kept = [0, 1, 4, 5]
    within = (a @ a.T / 6 + 1) ** 3
    between = (a @ b.T / 6 + 1) ** 3
    others = (b @ b.T / 6 + 1) ** 3
    expected = (
        within[np.ix_([0, 1], [4, 5])].mean()
        + (others.sum() - np.trace(others)) / 12
        - 2 * np.average(between[kept].mean(axis=1), weights=[2, 2, 1, 1])
    )
    assert sums.distance(times) == pytest.approx(expected)


def test_a_single_group_has_no_pairs():
    a, b = sets(0)
    assert np.isnan(kernel_distance(a, b, groups_one=np.zeros(len(a))))


def test_groups_that_do_not_fit_are_refused():
    a, b = sets(0)
    with pytest.raises(ValueError, match="3 groups for 40 pictures"):
        kernel_distance(a, b, groups_one=np.zeros(3))
