"""Fitting a code to its picture: never worse, at once right where the decoder is linear."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.latent.fitting import fitted

SIZE, NUMBERS = 6, 5
seeds = st.integers(0, 10_000)


def linear(seed: int) -> np.ndarray:
    """(D, 3, S, S): what each number draws."""
    return np.random.default_rng(seed).normal(size=(NUMBERS, 3, SIZE, SIZE)).astype(np.float32)


def draws(basis: np.ndarray, *, bend: float = 0.0):
    return lambda codes: np.tensordot(codes + bend * np.sin(3 * codes), basis, axes=1)


def error(made: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (np.square(made - wanted) * weights[:, None]).sum(axis=(1, 2, 3))


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_a_linear_decoder_is_solved_like_least_squares(seed):
    basis, rng = linear(seed), np.random.default_rng(seed)
    pictures = rng.normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    weights = rng.uniform(0.2, 2, (2, SIZE, SIZE)).astype(np.float32)
    start = rng.normal(size=(2, NUMBERS)).astype(np.float32)
    found = fitted(start, pictures, weights, draws(basis), steps=8)
    for code, picture, weight in zip(found, pictures, weights, strict=True):
        roots = np.sqrt(np.broadcast_to(weight, picture.shape)).ravel()
        slow = np.linalg.lstsq(
            basis.reshape(NUMBERS, -1).T * roots[:, None], picture.ravel() * roots, rcond=None
        )[0]
        np.testing.assert_allclose(code, slow, atol=5e-3)


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0, 1), st.integers(0, 3))
def test_no_step_makes_a_picture_worse(seed, bend, steps):
    draw, rng = draws(linear(seed), bend=bend), np.random.default_rng(seed)
    pictures = rng.normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)
    weights = np.ones((3, SIZE, SIZE), np.float32)
    start = rng.normal(size=(3, NUMBERS)).astype(np.float32)
    found = fitted(start, pictures, weights, draw, steps=steps)
    before, after = (error(draw(codes), pictures, weights) for codes in (start, found))
    assert (after <= before * (1 + 1e-6)).all()
    assert steps or np.array_equal(found, start)


def test_a_number_that_draws_nothing_stays():
    basis = linear(0)
    basis[2] = 0
    start = np.ones((1, NUMBERS), np.float32)
    pictures = np.zeros((1, 3, SIZE, SIZE), np.float32)
    found = fitted(start, pictures, np.ones((1, SIZE, SIZE), np.float32), draws(basis), steps=3)
    assert found[0, 2] == 1
    assert np.abs(np.delete(found[0], 2)).max() < 0.1


def test_a_picture_that_is_drawn_already_keeps_its_code():
    draw, start = draws(linear(1)), np.ones((1, NUMBERS), np.float32)
    found = fitted(start, draw(start), np.ones((1, SIZE, SIZE), np.float32), draw, steps=2)
    np.testing.assert_allclose(found, start, atol=1e-4)


def test_no_faces_are_no_work():
    none = np.zeros((0, NUMBERS), np.float32)
    pictures = np.zeros((0, 3, SIZE, SIZE), np.float32)
    weights = np.zeros((0, SIZE, SIZE), np.float32)
    assert fitted(none, pictures, weights, draws(linear(0)), steps=2).shape == (0, NUMBERS)
