"""The map from MediaPipe's points to dlib's: what is fitted, and what is shipped."""

from __future__ import annotations

import numpy as np
import pytest

from facemorph_core.alignment.frame import FRAME_SIZE, mean_shape, mirror_landmarks
from facemorph_core.alignment.mesh_points import NUMBERS
from tests.core.faces import CELEBA, needs_celeba
from tools.frame_numbers import one_photo_per_person
from tools.mesh_numbers import fitted, pairs_of


def test_points_that_lie_otherwise_by_a_linear_map_are_brought_back() -> None:
    """A map that mirrors as faces do: everything a little larger, brows and jaw moved down."""
    rng = np.random.default_rng(0)
    down = np.zeros((68, 2))
    down[:27, 1] = 3.0
    pairs = []
    for _ in range(400):
        mesh = mean_shape() + rng.normal(0, 2, (68, 2))
        pairs.append((mesh, mean_shape() + 1.05 * (mesh - mean_shape()) + down))
    numbers = fitted(pairs)
    mesh, wanted = pairs[7]
    got = numbers["weights"] @ (mesh - mean_shape()).ravel() + numbers["middle"]
    assert np.abs(got.reshape(68, 2) - wanted).max() < 0.2
    mirrored = mirror_landmarks(mesh, width=float(FRAME_SIZE))
    again = numbers["weights"] @ (mirrored - mean_shape()).ravel() + numbers["middle"]
    there = mirror_landmarks(got.reshape(68, 2), width=float(FRAME_SIZE))
    np.testing.assert_allclose(again.reshape(68, 2), there, atol=1e-3)


@pytest.mark.data
@needs_celeba
def test_the_shipped_map_fits_faces_of_celeba() -> None:
    with np.load(NUMBERS, allow_pickle=False) as archive:
        weights, middle = archive["weights"], archive["middle"]
    away, before = [], []
    for mesh, points in pairs_of(one_photo_per_person(CELEBA, photos=40)):
        got = (weights @ (mesh - mean_shape()).ravel() + middle).reshape(68, 2)
        away.append(np.linalg.norm(got - points, axis=1).mean())
        before.append(np.linalg.norm(mesh - points, axis=1).mean())
    assert len(away) > 20
    assert np.mean(away) < 1.8 < np.mean(before)  # pixels of the frame
