"""Laws of similarity transforms and of the canonical frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.alignment.frame import (
    EYE_CENTRE,
    EYE_DISTANCE,
    MIRRORED,
    eye_centres,
    framing,
    mean_shape,
    mirror_landmarks,
    shape_basis,
)
from facemorph_core.alignment.geometry import (
    apply_affine,
    compose_affine,
    fit_similarity,
    invert_affine,
    rescaling,
    scale_of,
    similarity,
)

FIVE = np.array([[10.0, 20.0], [40.0, 22.0], [25.0, 38.0], [14.0, 52.0], [37.0, 50.0]])

angles = st.floats(-math.pi, math.pi)
scales = st.floats(0.1, 10)
shifts = st.tuples(st.floats(-500, 500), st.floats(-500, 500))
similarities = st.builds(similarity, angles, scales, shifts)


@given(truth=similarities)
def test_recovers_any_similarity(truth):
    np.testing.assert_allclose(
        fit_similarity(FIVE, apply_affine(truth, FIVE)), truth, rtol=1e-8, atol=1e-7
    )


def test_never_mirrors_a_face():
    fit = fit_similarity(FIVE, FIVE * [-1, 1])
    assert np.linalg.det(fit[:, :2]) > 0


def test_a_quarter_turn_by_hand():
    source = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    target = np.array([[5.0, 7.0], [5.0, 8.0], [3.0, 7.0]])  # x -> down, y -> left
    np.testing.assert_allclose(fit_similarity(source, target), [[0, -1, 5], [1, 0, 7]], atol=1e-12)


@given(noise=st.integers(0, 1000))
def test_no_similarity_fits_better_than_the_fit(noise):
    rng = np.random.default_rng(noise)
    target = FIVE @ [[0.3, 0.9], [-0.9, 0.3]] + rng.normal(0, 3, FIVE.shape)
    fit = fit_similarity(FIVE, target)

    def error(matrix):
        return ((apply_affine(matrix, FIVE) - target) ** 2).sum()

    nearby = similarity(rng.normal(0, 0.01), 1 + rng.normal(0, 0.01), tuple(rng.normal(0, 0.1, 2)))
    assert error(fit) <= error(compose_affine(nearby, fit)) + 1e-9


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), 1e6), np.ones((1, 2))])
def test_coincident_points_are_refused(points):
    with pytest.raises(ValueError, match="coincide"):
        fit_similarity(points, FIVE[: len(points)])


def test_sets_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        fit_similarity(FIVE, FIVE[:3])


@given(first=similarities, second=similarities)
def test_composing_is_applying_one_after_the_other(first, second):
    together = apply_affine(compose_affine(second, first), FIVE)
    np.testing.assert_allclose(
        together, apply_affine(second, apply_affine(first, FIVE)), rtol=1e-9, atol=1e-6
    )


@given(matrix=similarities)
def test_the_inverse_is_the_way_back(matrix):
    back = apply_affine(invert_affine(matrix), apply_affine(matrix, FIVE))
    np.testing.assert_allclose(back, FIVE, atol=1e-7)


@given(factor=st.floats(0.1, 10))
def test_rescaling_keeps_the_edges_of_the_image(factor):
    edges = np.array([[-0.5, -0.5], [127.5, 63.5]])
    expected = np.array([[-0.5, -0.5], [128 * factor - 0.5, 64 * factor - 0.5]])
    np.testing.assert_allclose(apply_affine(rescaling(factor), edges), expected, atol=1e-9)
    assert scale_of(rescaling(factor)) == pytest.approx(factor)


# --- the frame -------------------------------------------------------------------------------


def test_the_mean_shape_has_its_eyes_where_the_frame_says():
    left, right = eye_centres(mean_shape())
    np.testing.assert_allclose((left + right) / 2, EYE_CENTRE, atol=1e-9)
    np.testing.assert_allclose(right - left, [EYE_DISTANCE, 0], atol=1e-9)


def test_the_mean_shape_is_its_own_mirror_image():
    np.testing.assert_allclose(mirror_landmarks(mean_shape(), width=128.0), mean_shape(), atol=1e-9)
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(68))


def test_a_larger_frame_is_the_same_frame():
    left, right = eye_centres(mean_shape(256))
    assert framing(256)["eye_distance"] == pytest.approx(np.linalg.norm(right - left)) == 72
    np.testing.assert_allclose((left + right) / 2, framing(256)["eye_centre"])
    assert framing() == {
        "size": 128,
        "eye_distance": 36.0,
        "eye_centre": [63.5, 59.5],
        "landmarks": "dlib68",
    }


def test_what_is_given_out_is_a_copy():
    mean_shape()[:] = 0
    shape_basis().mean[:] = 0
    assert mean_shape().min() > 0
    assert shape_basis().mean.min() > 0


@given(seed=st.integers(0, 1000))
def test_shape_codes_survive_the_way_through_points(seed):
    code = np.random.default_rng(seed).normal(size=24)
    basis = shape_basis()
    np.testing.assert_allclose(basis.encode_shape(basis.decode_shape(code)), code, atol=1e-9)


def test_the_basis_is_orthonormal_and_ordered():
    basis = shape_basis()
    np.testing.assert_allclose(basis.components @ basis.components.T, np.eye(24), atol=1e-12)
    assert (np.diff(basis.scales) <= 0).all()
    assert basis.scales[-1] > 0


def test_the_basis_treats_left_and_right_alike():
    """Mirroring a face maps the basis to itself: each component is even or odd."""
    basis = shape_basis()
    even_or_odd = []
    for row in basis.components:
        shape = row.reshape(68, 2)[MIRRORED] * [-1, 1]
        even_or_odd.append(abs(float(shape.reshape(-1) @ row)))
    np.testing.assert_allclose(even_or_odd, 1, atol=1e-6)
