from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facemorph_core.latent.interpolate import Code, lerp, path, slerp
from facemorph_core.latent.interpolations import Interpolation

numbers = st.floats(-100, 100, allow_subnormal=False)
codes = arrays(np.float64, 6, elements=numbers)
shares = st.floats(0, 1)
kinds = st.sampled_from(get_args(Interpolation))


def length(code: Code) -> float:
    return float(np.linalg.norm(code))


@given(a=codes, b=codes, kind=kinds)
def test_the_ends_are_the_inputs(a: Code, b: Code, kind: Interpolation) -> None:
    way = path(a, b, [0, 0.5, 1], kind)
    np.testing.assert_array_equal(way[0], a)
    np.testing.assert_array_equal(way[2], b)


@given(a=codes, b=codes, t=shares, kind=kinds)
def test_swapping_the_inputs_reverses_the_path(
    a: Code, b: Code, t: float, kind: Interpolation
) -> None:
    forth, back = path(a, b, [t], kind), path(b, a, [1 - t], kind)
    assert np.abs(forth - back).max() <= 1e-6


@given(a=codes, b=codes, t=shares)
def test_lengths_on_a_great_circle_stay_between_those_of_the_ends(
    a: Code, b: Code, t: float
) -> None:
    assume(min(length(a), length(b)) > 1e-3 * max(length(a), length(b)))
    low, high = sorted([length(a), length(b)])
    assert low * (1 - 1e-6) <= length(slerp(a, b, t)) <= high * (1 + 1e-6)


@given(a=codes, b=codes, t=shares)
def test_the_straight_line_is_never_longer_than_its_ends(a: Code, b: Code, t: float) -> None:
    assert length(lerp(a, b, t)) <= max(length(a), length(b)) * (1 + 1e-9)


@given(a=codes, kind=kinds, t=shares)
def test_from_a_code_to_itself_nothing_moves(a: Code, kind: Interpolation, t: float) -> None:
    assert np.abs(path(a, a, [t], kind) - a).max() <= 1e-9


@given(a=codes, t=shares)
def test_opposite_codes_turn_without_shrinking(a: Code, t: float) -> None:
    assume(length(a) > 1e-3)
    assert length(slerp(a, -a, t)) == pytest.approx(length(a))


def test_a_quarter_turn_by_hand() -> None:
    middle = slerp(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 0.5)
    np.testing.assert_allclose(middle, [np.sqrt(0.5), np.sqrt(0.5)])


def test_equal_steps_turn_by_equal_angles() -> None:
    way = path(np.array([1.0, 0.0]), np.array([-0.6, 0.8]), np.linspace(0, 1, 9), "slerp")
    cosines = (way[1:] * way[:-1]).sum(axis=1)
    np.testing.assert_allclose(cosines, cosines[0])


def test_without_a_length_there_is_nothing_to_turn() -> None:
    a, b = np.zeros(3), np.array([0.0, 2.0, 0.0])
    np.testing.assert_allclose(slerp(a, b, 0.25), lerp(a, b, 0.25))


@given(kind=kinds)
def test_codes_keep_their_type(kind: Interpolation) -> None:
    a, b = np.ones(4, np.float32), np.array([1, 2, 3, 4], np.float32)
    assert path(a, b, [0, 0.3, 1], kind).dtype == np.float32
