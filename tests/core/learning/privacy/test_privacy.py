"""What was released, what it costs, and that nobody overspends."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from scipy import optimize, stats

from facemorph_core.config.schema import PrivacyConfig
from facemorph_core.errors import BudgetExhausted
from facemorph_core.learning.privacy import GaussianSteps, PlainRelease, epsilon
from facemorph_core.learning.privacy.ledger import charge
from facemorph_core.learning.privacy.mechanism import poisson_batch
from facemorph_core.learning.privacy.secret import Secret

noises, rates, steps = st.floats(0.5, 5), st.floats(0.001, 1), st.integers(1, 400)
DELTA = 1e-5


def gaussian_epsilon(noise: float, delta: float) -> float:
    """Exact epsilon of one Gaussian release of sensitivity 1 (Balle and Wang, 2018)."""

    def excess(eps: float) -> float:
        tail = stats.norm.logcdf(-1 / (2 * noise) - eps * noise)
        return stats.norm.cdf(1 / (2 * noise) - eps * noise) - np.exp(eps + tail) - delta

    return optimize.brentq(excess, 0, 1000)


def test_nothing_released_costs_nothing():
    assert epsilon([], DELTA) == 0
    assert epsilon([GaussianSteps(1.0, 0.1, 0)], DELTA) == 0


@settings(max_examples=8)
@given(noise=noises, rate=rates, a=steps, b=steps)
def test_two_rounds_cost_what_one_long_round_costs(noise, rate, a, b):
    split = [GaussianSteps(noise, rate, a), GaussianSteps(noise, rate, b)]
    whole = [GaussianSteps(noise, rate, a + b)]
    assert epsilon(split, DELTA) == pytest.approx(epsilon(whole, DELTA))


@settings(max_examples=8)
@given(noise=noises, more=st.floats(1.0, 3.0), rate=rates, count=steps)
def test_more_noise_never_costs_more(noise, more, rate, count):
    loud, quiet = (GaussianSteps(n, rate, count) for n in (noise * more, noise))
    assert epsilon([loud], DELTA) <= epsilon([quiet], DELTA) + 1e-9


@settings(max_examples=8)
@given(noise=noises, rate=rates, count=steps, then=steps)
def test_another_release_never_makes_it_cheaper(noise, rate, count, then):
    first, second = GaussianSteps(noise, rate, count), GaussianSteps(2.0, 0.05, then)
    assert epsilon([first, second], DELTA) >= epsilon([first], DELTA)
    assert epsilon([second, first], DELTA) == pytest.approx(epsilon([first, second], DELTA))


@settings(max_examples=8)
@given(noise=st.floats(0.5, 20), count=st.integers(1, 50))
def test_the_exact_cost_of_full_batches_is_never_undercut(noise, count):
    """k full-batch steps are one Gaussian release with noise / sqrt(k)."""
    exact = gaussian_epsilon(noise / math.sqrt(count), DELTA)
    bound = epsilon([GaussianSteps(noise, 1.0, count)], DELTA)
    assert exact <= bound <= 1.35 * exact + 0.05


@settings(max_examples=20)
@given(
    noise=st.floats(0.3, 1e4),
    rate=st.floats(1e-6, 1),
    count=st.integers(0, 10**12),
    spent=st.sampled_from([(0.5, 0.5, 40), (4.0, 1.0, 1), (1.0, 0.01, 100)]),
)
def test_no_release_gives_budget_back_however_large_its_noise(noise, rate, count, spent):
    before, event = [GaussianSteps(*spent)], GaussianSteps(noise, rate, count)
    assert epsilon([*before, event], DELTA) >= epsilon(before, DELTA)
    assert epsilon([event], DELTA) >= 0


def test_noise_that_the_accountant_cannot_tell_from_nothing_is_refused():
    with pytest.raises(ValueError, match="not a possible release"):
        GaussianSteps(1e8, 0.5, 1)
    with pytest.raises(ValueError, match="noise_multiplier"):
        PrivacyConfig(noise_multiplier=1e8)


def test_published_values():
    """Abadi et al. (2016), section 3.2: 1.26 at q=0.01, sigma=4, T=10,000 by the moments
    accountant, whose conversion is looser. Opacus' documentation: 0.336 on coarser orders."""
    abadi = epsilon([GaussianSteps(4.0, 0.01, 10_000)], DELTA)
    assert 0.9 < abadi <= 1.26
    opacus = epsilon([GaussianSteps(1.0, 1e-5, 10), GaussianSteps(3.0, 1e-4, 4)], DELTA)
    assert opacus == pytest.approx(0.336, abs=5e-4)


def test_it_lies_just_above_the_tighter_accountant():
    events = [GaussianSteps(1.0, 0.05, 200), GaussianSteps(1.2, 0.02, 300)]
    tight = PRVAccountant()
    tight.history = [(e.noise_multiplier, e.sample_rate, e.steps) for e in events]
    reference = tight.get_epsilon(DELTA)
    assert reference <= epsilon(events, DELTA) <= 1.2 * reference


@pytest.mark.parametrize(
    "facts", [(0.0, 0.1, 1), (1.0, 0.0, 1), (1.0, 1.1, 1), (1.0, 0.1, -1), (math.nan, 0.1, 1)]
)
def test_impossible_releases_are_refused(facts):
    with pytest.raises(ValueError, match="not a possible release"):
        GaussianSteps(*facts)


# --- the gate --------------------------------------------------------------------------------


def test_the_budget_refuses_before_anything_is_released():
    event = GaussianSteps(1.0, 0.1, 100)
    spent = charge((), event, delta=DELTA, limit=100.0)
    with pytest.raises(BudgetExhausted, match=r"raise epsilon from .* past the limit") as caught:
        charge((event,), event, delta=DELTA, limit=spent + 0.01)
    assert caught.value.spent == pytest.approx(spent)
    assert caught.value.after > caught.value.limit


def test_a_limit_can_be_reached_exactly():
    event = GaussianSteps(1.0, 0.1, 100)
    assert charge((), event, delta=DELTA, limit=epsilon([event], DELTA)) > 0


def test_what_left_without_noise_has_no_epsilon():
    assert epsilon([PlainRelease("scores")], DELTA) == math.inf
    assert epsilon([GaussianSteps(1.0, 0.1, 1), PlainRelease("weights")], 0.5) == math.inf


# --- randomness ------------------------------------------------------------------------------


def test_poisson_batches_have_the_size_and_the_spread_of_poisson_sampling():
    secret, rows = Secret(bytes(32)), np.arange(50, 250)
    batches = [poisson_batch(rows, 0.1, secret, step=step) for step in range(2000)]
    sizes = np.array([len(batch) for batch in batches])
    assert sizes.mean() == pytest.approx(20, abs=0.5)
    assert sizes.var() == pytest.approx(200 * 0.1 * 0.9, rel=0.15)
    shares = np.bincount(np.concatenate(batches), minlength=250)[50:] / 2000
    assert abs(shares - 0.1).max() < 0.04


def test_poisson_batches_can_be_empty_and_can_be_everything():
    secret, rows = Secret(bytes(32)), np.arange(5)
    assert any(len(poisson_batch(rows, 0.01, secret, step=step)) == 0 for step in range(10))
    assert poisson_batch(rows, 1.0, secret, step=0).tolist() == rows.tolist()
    assert poisson_batch(np.array([], np.int64), 0.5, secret, step=0).tolist() == []


@given(away=st.integers(0, 19), step=st.integers(0, 10**6))
def test_who_is_drawn_does_not_depend_on_who_else_is_there(away, step):
    secret, rows = Secret(bytes(32)), np.arange(20)
    drawn = poisson_batch(rows, 0.5, secret, step=step).tolist()
    without = poisson_batch(np.delete(rows, away), 0.5, secret, step=step).tolist()
    assert without == [row for row in drawn if row != away]


def test_nobody_can_repeat_the_draws_of_a_round():
    assert len({float(Secret().uniform(1, "a")[0]) for _ in range(20)}) == 20


def test_every_address_has_a_stream_of_its_own():
    secret = Secret(bytes(32))
    addresses = [("a", 1), ("a", 2), ("a", "1"), ("a1",), ("a", 1, 0), ("a", 11)]
    assert len({float(secret.uniform(1, *address)[0]) for address in addresses}) == len(addresses)
    assert torch.equal(secret.uniform(5, "a", 1), Secret(bytes(32)).uniform(5, "a", 1))
    assert not torch.equal(secret.uniform(5, "a"), Secret(bytes(31) + b"1").uniform(5, "a"))


def test_the_stream_is_that_of_aes_in_counter_mode():
    """The block cipher by itself, one block at a time."""
    secret, address = Secret(bytes(range(32))), ("noise", 3)
    key = hashlib.blake2b(repr(address).encode(), key=bytes(range(32)), digest_size=32).digest()
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    stream = b"".join(block.update(counter.to_bytes(16, "big")) for counter in range(4))
    words = np.frombuffer(stream, np.uint64) & np.uint64(2**53 - 1)
    np.testing.assert_array_equal(secret.uniform(8, *address), words / 2**53)


def test_normal_numbers_are_normal_into_their_tails():
    drawn = Secret(bytes(32)).normal((1_000_000,), "noise").numpy()
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    for far in (2, 3, 4):
        expected = 2e6 * stats.norm.sf(far)
        assert abs((abs(drawn) > far).sum() - expected) < 5 * expected**0.5
    halves = np.corrcoef(drawn[:500_000], drawn[500_000:])[0, 1]
    assert abs(halves) < 0.01


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4), (2**21 + 3,)])
def test_normal_numbers_have_the_shape_that_was_asked_for(shape):
    assert Secret(bytes(32)).normal(shape, "a").shape == torch.Size(shape)


def test_every_photo_and_step_has_a_generator_of_its_own():
    secret = Secret(bytes(32))
    drawn = {
        address: torch.rand(3, generator=secret.generator(*address))
        for address in [("light", 0, 7), ("light", 0, 9), ("light", 1, 7), ("crop", 0, 7)]
    }
    assert len({tuple(each.tolist()) for each in drawn.values()}) == len(drawn)
    again = torch.rand(3, generator=Secret(bytes(32)).generator("light", 0, 9))
    assert torch.equal(drawn["light", 0, 9], again)
