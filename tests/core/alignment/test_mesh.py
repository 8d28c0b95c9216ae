"""The mesh over a frame: landmarks go where they are sent, the border stays, nothing is torn."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from facemorph_core.alignment import mesh
from facemorph_core.alignment.frame import (
    FRAME_SIZE,
    NUM_LANDMARKS,
    NUM_SHAPE,
    mean_shape,
    shape_basis,
)

seeds = st.integers(0, 10_000)


def face(seed: int) -> np.ndarray:
    code = 0.6 * np.random.default_rng(seed).normal(size=NUM_SHAPE)
    return mesh.vertices(shape_basis().decode_shape(code))


def opposite_sides(corners: np.ndarray) -> np.ndarray:
    """(3,) lengths of the sides that do not touch each corner."""
    return np.linalg.norm(np.roll(corners, -1, axis=0) - np.roll(corners, 1, axis=0), axis=1)


def by_hand(point: np.ndarray, target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """(n, 2) where ``point`` of the target may lie in the source: triangles around it, one by one.

    Several where the face folds and on edges, which OpenCV paints a pixel wide.
    """
    found = []
    for corners in mesh.triangles():
        system = np.vstack([target[corners].T, np.ones(3)])
        if abs(np.linalg.det(system)) > 1e-9:
            shares = np.linalg.solve(system, [*point, 1])
            heights = abs(np.linalg.det(system)) / opposite_sides(target[corners])
            if (shares * heights).min() > -1.2:  # pixels from a side, of a sliver too
                found.append(source[corners].T @ shares)
    return np.array(found)


def test_the_net_covers_the_frame_once() -> None:
    corners = mesh.vertices(mean_shape())[mesh.triangles()]
    areas = 0.5 * np.linalg.det(corners[:, 1:] - corners[:, :1])
    assert np.isclose(np.abs(areas).sum(), FRAME_SIZE**2)
    assert set(mesh.triangles().ravel()) == set(range(len(mesh.vertices(mean_shape()))))


@given(seed=seeds)
def test_a_face_onto_itself_moves_nothing_at_all(seed: int) -> None:
    (away,) = mesh.displacements(face(seed), [face(seed)])
    assert not away.any()
    np.testing.assert_array_equal(mesh.places(away)[0][5], np.arange(FRAME_SIZE))


@given(seed=seeds)
def test_pixels_lie_where_the_triangle_around_them_sends_them(seed: int) -> None:
    target, source = face(seed), face(seed + 1)
    (away,) = mesh.displacements(target, [source])
    found = np.stack(mesh.places(away), axis=-1)
    errors = []
    for x, y in np.random.default_rng(seed).integers(0, FRAME_SIZE, (20, 2)).tolist():
        expected = by_hand(np.array([x, y], float), target, source)
        errors.append(np.abs(found[y, x] - expected).max(axis=1).min())
    assert np.quantile(errors, 0.8) < 1e-3
    assert max(errors) < 1.5  # a pixel on an edge may be painted by the neighbour


def folds(drawn: np.ndarray) -> bool:
    """Whether a part of a face, its inner lips aside, lies behind another, as a turned jaw may."""
    corners = mesh.triangles()
    corners = corners[~((corners >= 60) & (corners < NUM_LANDMARKS)).any(axis=1)]

    def areas(points: np.ndarray) -> np.ndarray:
        return np.linalg.det(points[corners][:, 1:] - points[corners][:, :1])

    return bool((areas(drawn) * areas(mesh.vertices(mean_shape())) < 0).any())


@given(seed=seeds)
def test_landmarks_go_to_landmarks(seed: int) -> None:
    target, source = face(seed), face(seed + 1)
    assume(not folds(target))  # there a pixel can only go to one of two places
    (away,) = mesh.displacements(target, [source])
    outer = np.arange(60)  # a closed mouth may fold, and then the inner lips lie twice
    where = target[None, outer].astype(np.float32)
    there = cv2.remap(np.stack(mesh.places(away), axis=-1), where, None, 1)[0]
    errors = np.linalg.norm(there - source[outer], axis=1)
    assert np.median(errors) < 0.2
    assert np.quantile(errors, 0.9) < 1


@given(seed=seeds)
def test_the_border_stays(seed: int) -> None:
    (away,) = mesh.displacements(face(seed), [face(seed + 1)])
    edge = np.concatenate([away[0, :, 1], away[:, 0, 0], away[:, -1, 0]])  # a chin may be below
    assert np.abs(edge).max() < 1.5  # half a pixel inside the edge, which does not move across


def test_landmarks_outside_the_frame_are_brought_to_its_edge() -> None:
    points = mean_shape() + np.array([60, 0])
    found = mesh.vertices(points)
    assert found[:NUM_LANDMARKS, 0].max() == FRAME_SIZE - 1
    (away,) = mesh.displacements(found, [mesh.vertices(mean_shape())])
    assert np.isfinite(away).all()


def test_the_forehead_moves_with_the_face() -> None:
    lower = mean_shape() + np.array([0, 6])
    moved = mesh.vertices(lower) - mesh.vertices(mean_shape())
    arc = moved[NUM_LANDMARKS : NUM_LANDMARKS + len(mesh.ARC_DEGREES)]
    np.testing.assert_allclose(arc[:, 1], 6, atol=1e-6)
