"""A frame from three layers: photos at the ends, sharp and whole in between."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.alignment import align_photo
from facemorph_core.alignment.geometry import rescaling
from facemorph_core.bundle import Bundle, open_bundle
from facemorph_core.bundle.find import find_model
from facemorph_core.metrics.hull import hull_mask
from facemorph_core.morphing import detail, surroundings
from facemorph_core.morphing.choices import Mode
from facemorph_core.morphing.layers import Face, Layers
from facemorph_core.morphing.view import View
from tests.core.faces import GRACE_HOPPER, astronaut, orl_photo

SIDE = detail.MAP_SIDE
HALF = np.array([0.5, 0.5])
ONE, OTHER = np.array([1.0, 0.0]), np.array([0.0, 1.0])


# --- detail ------------------------------------------------------------------------------------


def noise(seed: int, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=20, size=(count, 128, 128, 3)).astype(np.float32)


def gains_of(weights: np.ndarray, preferred: np.ndarray, found: detail.Agreement) -> np.ndarray:
    """On the face, where shares are the weights."""
    shares = np.broadcast_to(weights[:, None, None], preferred.shape).astype(np.float32)
    return detail.gains(weights, shares, preferred, found)


def preferences(seed: int, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, SIDE, SIDE)).astype(np.float32)


@given(seed=st.integers(0, 99), chosen=st.integers(0, 2))
@settings(max_examples=10)
def test_all_weight_on_one_face_gives_that_face_alone(seed: int, chosen: int) -> None:
    found = detail.agreement(noise(seed, 3))
    weights = np.eye(3)[chosen]
    gains = gains_of(weights, preferences(seed, 3), found)
    np.testing.assert_allclose(gains, weights[:, None, None] * np.ones_like(gains), atol=1e-5)


def test_details_that_agree_are_faded_whatever_is_preferred() -> None:
    one = noise(0, 1)
    found = detail.agreement(np.concatenate([one, one]))
    gains = gains_of(np.array([0.3, 0.7]), preferences(1), found)
    np.testing.assert_allclose(gains.sum(axis=0), 1, atol=0.02)


def test_unrelated_details_keep_their_energy_where_a_fade_halves_it() -> None:
    fine = noise(0)
    gains = gains_of(HALF, np.zeros((2, SIDE, SIDE), np.float32), detail.agreement(fine))
    large = np.stack([cv2.resize(each, (128, 128)) for each in gains])[..., None]
    kept = ((large * fine).sum(axis=0) ** 2).mean() / (fine**2).mean()
    faded = (fine.mean(axis=0) ** 2).mean() / (fine**2).mean()
    assert kept == pytest.approx(1, abs=0.05)
    assert faded == pytest.approx(0.5, abs=0.05)


def test_one_face_gives_the_detail_where_it_is_preferred_and_the_details_differ() -> None:
    wanted = np.zeros((2, SIDE, SIDE), np.float32)
    wanted[0, :, : SIDE // 2] = wanted[1, :, SIDE // 2 :] = 1.0
    gains = gains_of(HALF, wanted, detail.agreement(noise(0)))
    left, right = gains[:, :, : SIDE // 2], gains[:, :, SIDE // 2 :]
    assert left[0].min() > 0.8
    assert left[1].max() < 0.1
    assert right[1].min() > 0.8


@given(seed=st.integers(0, 99), count=st.integers(2, 5))
@settings(max_examples=10)
def test_each_face_keeps_longest_what_is_strongest_in_it_and_none_more_than_its_part(
    seed: int, count: int
) -> None:
    fine = noise(seed, count) * np.linspace(1, 3, count)[:, None, None, None]  # one is stronger
    found = detail.agreement(fine.astype(np.float32))
    wanted = detail.preferences(found)
    np.testing.assert_allclose(wanted.mean(axis=(1, 2)), 0, atol=1e-5)
    assert np.ptp(wanted) == pytest.approx(detail.SPREAD)
    shares = np.log(found.energies) - np.log(found.energies).mean(axis=0)
    for own, preferred in zip(shares, wanted, strict=True):
        order = own.ravel().argsort(kind="stable")
        assert (np.diff(preferred.ravel()[order]) >= 0).all()


def test_a_place_that_is_one_faces_has_its_detail_and_no_less() -> None:
    """However faint the other's is, or strong."""
    fine = noise(0) * np.array([1, 20], np.float32)[:, None, None, None]
    wanted = np.array([1, -1], np.float32)[:, None, None] * np.ones((2, SIDE, SIDE), np.float32)
    shares = np.stack([np.ones((SIDE, SIDE)), np.zeros((SIDE, SIDE))]).astype(np.float32)
    gains = detail.gains(HALF, shares, wanted, detail.agreement(fine))
    np.testing.assert_allclose(gains[0], 1, atol=0.1)


def test_the_order_of_faces_does_not_matter() -> None:
    fine, wanted, weights = noise(0, 3), preferences(1, 3), np.array([0.2, 0.3, 0.5])
    turned = [2, 0, 1]
    gains = gains_of(weights, wanted, detail.agreement(fine))
    other = gains_of(weights[turned], wanted[turned], detail.agreement(fine[turned]))
    np.testing.assert_allclose(gains[turned], other, rtol=1e-4, atol=1e-6)


# --- surroundings ------------------------------------------------------------------------------


def kept(seed: int, count: int = 2) -> np.ndarray:
    """Preferences of faces that have more and more detail around them."""
    stronger = noise(seed, count) * np.linspace(1, 2, count, dtype=np.float32)[:, None, None, None]
    return surroundings.preferences(detail.agreement(stronger))


@given(seed=st.integers(0, 99), weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
@settings(max_examples=20)
def test_shares_of_a_place_are_one_in_sum(seed: int, weights: list[float]) -> None:
    given_weights = np.array(weights) / sum(weights)
    wanted = kept(seed, len(weights))
    shares = surroundings.shares(given_weights, wanted)
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    assert surroundings.beyond(given_weights, wanted).sum() == pytest.approx(1, abs=1e-5)


def test_a_face_with_all_weight_has_its_own_surroundings() -> None:
    for chosen in np.eye(3):
        shares = surroundings.shares(chosen, kept(0, 3))
        np.testing.assert_allclose(shares, chosen[:, None, None] * np.ones_like(shares), atol=1e-6)
        np.testing.assert_allclose(surroundings.beyond(chosen, kept(0, 3)), chosen, atol=1e-6)


@given(alpha=st.floats(0.05, 0.95))
@settings(max_examples=20)
def test_the_face_fades_and_most_of_what_surrounds_it_is_of_one(alpha: float) -> None:
    shares = surroundings.shares(np.array([1 - alpha, alpha]), kept(0))
    around = surroundings.around()
    np.testing.assert_allclose(shares[1][around < 1e-3], alpha, atol=0.02)
    largest = shares.max(axis=0)[around > 0.99]
    after_the_change = np.log(alpha / (1 - alpha)) + 2 * surroundings.HELD  # the second has more
    assert largest.min() > 0.85 or abs(after_the_change) < 0.3
    assert np.sign(shares[1][around > 0.99].mean() - 0.5) == np.sign(after_the_change)


def test_no_place_goes_back_to_the_first_face() -> None:
    wanted = kept(0)
    alphas = np.linspace(0, 1, 41)
    shares = np.stack([surroundings.shares(np.array([1 - a, a]), wanted)[1] for a in alphas])
    assert (np.diff(shares, axis=0) > -1e-6).all()


def test_what_surrounds_a_face_changes_over_the_same_way_there_and_back() -> None:
    fine, weights = noise(0) * np.array([1, 2], np.float32)[:, None, None, None], [0.4, 0.6]
    there, back = (
        surroundings.shares(np.array(own), surroundings.preferences(detail.agreement(faces)))
        for own, faces in ((weights, fine), (weights[::-1], fine[::-1]))
    )
    np.testing.assert_allclose(there, back[::-1], atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 40])
def test_one_of_many_faces_gives_the_surroundings_and_their_detail(count: int) -> None:
    fine = noise(0, count) * np.linspace(1, 2, count, dtype=np.float32)[:, None, None, None]
    found, around = detail.agreement(fine), surroundings.around()
    wanted, even = surroundings.preferences(found), np.full(count, 1 / count)
    shares = surroundings.shares(even, wanted)
    assert shares[-1][around > 0.99].min() > 0.95  # that with most detail there
    assert surroundings.beyond(even, wanted)[-1] > 0.95
    everywhere = wanted[:, None, None] * np.ones_like(found.energies)
    gains = detail.gains(even, shares, everywhere, found, surroundings.decided(around, count))
    assert gains[:-1, around > 0.99].max() < 0.15
    np.testing.assert_allclose(shares[:, around < 1e-3], 1 / count, atol=0.02)  # the face fades


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_face_of_three_times_the_weight_gives_the_surroundings(count: int) -> None:
    weights = np.ones(count)
    weights[0] = 3  # that with least detail there
    assert surroundings.beyond(weights / weights.sum(), kept(0, count))[0] > 0.9


# --- layers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(find_model(None))


def face_of(bundle: Bundle, photo: Path | np.ndarray, size: int = 128) -> Face:
    small, large = align_photo(photo), align_photo(photo, size=size)
    code = bundle.encode(small.pixels[None], small.landmarks[None])[0]
    return Face(small.pixels, small.landmarks, code, large.pixels, rescaling(128 / size))


@pytest.fixture(scope="module")
def faces(bundle: Bundle) -> list[Face]:
    return [face_of(bundle, photo) for photo in (GRACE_HOPPER, astronaut(), orl_photo(3, 1))]


def between(
    layers: Layers, faces: list[Face], weights: np.ndarray, view: View | None = None
) -> np.ndarray:
    code = np.tensordot(weights, np.stack([face.code for face in faces]), axes=1)
    own = View.of_frame(len(faces[0].photo))
    return layers.frame(code.astype(np.float32), weights, weights, view or own)


@pytest.mark.parametrize("mode", ["full", "landmark"])
@pytest.mark.parametrize("size", [128, 300])
def test_the_ends_are_the_photos_to_the_last_bit(bundle: Bundle, mode: Mode, size: int) -> None:
    pair = [face_of(bundle, photo, size) for photo in (GRACE_HOPPER, astronaut())]
    layers = Layers(bundle, pair, mode)
    np.testing.assert_array_equal(between(layers, pair, ONE), pair[0].photo)
    np.testing.assert_array_equal(between(layers, pair, OTHER), pair[1].photo)


def test_latent_is_what_the_decoder_draws(bundle: Bundle, faces: list[Face]) -> None:
    layers = Layers(bundle, faces[:2], "latent")
    code = (faces[0].code + faces[1].code) / 2
    np.testing.assert_array_equal(between(layers, faces[:2], HALF), bundle.decode(code[None])[0])


def test_a_morph_into_oneself_is_oneself(bundle: Bundle, faces: list[Face]) -> None:
    same = [faces[0], faces[0]]
    frame = between(Layers(bundle, same), same, np.array([0.4, 0.6]))
    assert np.abs(frame.astype(int) - faces[0].pixels).max() <= 1


def test_the_first_and_the_last_step_are_small(bundle: Bundle, faces: list[Face]) -> None:
    layers = Layers(bundle, faces[:2])
    near = between(layers, faces[:2], np.array([0.99, 0.01])).astype(float)
    assert 10 * np.log10(255**2 / ((near - faces[0].pixels) ** 2).mean()) > 34


def test_full_stays_sharp_where_the_classical_morph_goes_soft(
    bundle: Bundle, faces: list[Face]
) -> None:
    def sharpness(pixels: np.ndarray, landmarks: np.ndarray) -> float:
        edges = cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F)
        return float(edges[hull_mask(landmarks, (128, 128))].var())

    pair = faces[:2]
    parents = np.sqrt(np.prod([sharpness(face.pixels, face.landmarks) for face in pair]))
    middle = (pair[0].landmarks + pair[1].landmarks) / 2
    found = {
        mode: sharpness(between(Layers(bundle, pair, mode), pair, HALF), middle) / parents
        for mode in ("full", "landmark")
    }
    assert 0.8 < found["full"] < 1.2
    assert found["landmark"] < 0.75


def test_faces_may_come_in_any_order_and_number(bundle: Bundle, faces: list[Face]) -> None:
    weights, turned = np.array([0.2, 0.3, 0.5]), [1, 2, 0]
    frame = between(Layers(bundle, faces), faces, weights)
    others = [faces[number] for number in turned]
    other = between(Layers(bundle, others), others, weights[turned])
    assert np.abs(frame.astype(int) - other).max() <= 1


def test_one_face_alone_is_itself(bundle: Bundle, faces: list[Face]) -> None:
    frame = between(Layers(bundle, faces[:1]), faces[:1], np.ones(1))
    np.testing.assert_array_equal(frame, faces[0].pixels)


def test_two_backgrounds_are_not_seen_at_once(bundle: Bundle, faces: list[Face]) -> None:
    """Every corner of the frame is one photo's, where the classical morph shows both."""
    pair, view = faces[:2], View.of_frame(128)
    plain = Layers(bundle, pair, "landmark")
    warped = [plain.frame(pair[0].code, HALF, weights, view) for weights in (ONE, OTHER)]
    corners = [(slice(0, 12), slice(0, 12)), (slice(0, 12), slice(-12, None))]

    def away(mode: Mode) -> list[float]:
        frame = between(Layers(bundle, pair, mode), pair, HALF).astype(float)
        return [min(np.abs(frame[c] - each[c]).mean() for each in warped) for c in corners]

    assert max(away("full")) < 5
    assert min(away("landmark")) > 20


def test_shape_and_texture_go_their_own_ways(bundle: Bundle, faces: list[Face]) -> None:
    """The features of one face with the skin of the other: its landmarks are found there."""
    pair = faces[:2]
    frame = Layers(bundle, pair).frame(pair[0].code, OTHER, ONE, View.of_frame(128))
    found = align_photo(cv2.resize(frame, (384, 384), interpolation=cv2.INTER_CUBIC))
    assert found.landmarks.shape == (68, 2)
    back = np.linalg.inv(np.vstack([found.to_frame, [0, 0, 1]]))[:2]
    there = (found.landmarks @ back[:, :2].T + back[:, 2] + 0.5) / 3 - 0.5
    to_shape = np.linalg.norm(there - pair[1].landmarks, axis=1).mean()
    to_texture = np.linalg.norm(there - pair[0].landmarks, axis=1).mean()
    assert to_shape < to_texture / 2
