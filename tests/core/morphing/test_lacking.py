"""A photo that ends close to its face: no second pair of eyes, the other's surroundings instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.align import AlignedFace, align_face, choose_face
from facemorph_core.alignment.beyond import lacking as lacking_in
from facemorph_core.alignment.landmarks import DlibDetector
from facemorph_core.morphing.engine import Morpher, MorphFace
from facemorph_core.morphing.lacking import SOON, handed_over
from facemorph_core.morphing.layers import Layers
from tests.core.faces import GRACE_HOPPER, astronaut

maps = hnp.arrays(np.float32, (3, 4, 3), elements=st.floats(0, 1, width=32))
weights = st.tuples(*3 * [st.floats(0.01, 1)]).map(lambda each: np.array(each) / sum(each))


def after(shares: Any, lacking: Any, weights: Any) -> NDArray[np.float32]:
    kept, taken = handed_over(shares, lacking, weights)
    return np.asarray(kept * shares + taken)


@given(shares=maps, lacking=maps, weights=weights)
def test_what_is_handed_over_is_neither_more_nor_less(
    shares: Any, lacking: Any, weights: Any
) -> None:
    found = after(shares, lacking, weights)
    np.testing.assert_allclose(found.sum(axis=-1), shares.sum(axis=-1), atol=1e-4)
    assert found.min() >= -1e-6


@given(lacking=maps, chosen=st.integers(0, 2))
def test_with_all_weight_on_one_photo_it_shows_itself(lacking: Any, chosen: int) -> None:
    own = np.eye(3)[chosen]
    shares = np.broadcast_to(own.astype(np.float32), lacking.shape)
    np.testing.assert_array_equal(after(shares, lacking, own), shares)


@given(shares=maps, weights=weights)
def test_where_all_is_there_nothing_changes(shares: Any, weights: Any) -> None:
    np.testing.assert_array_equal(after(shares, np.zeros_like(shares), weights), shares)


@given(shares=maps, alpha=st.floats(SOON, 1 - SOON))
def test_where_one_has_nothing_the_other_gives_all(shares: Any, alpha: float) -> None:
    missing = np.zeros((3, 4, 2), np.float32)
    missing[..., 0] = 1
    found = after(shares[..., :2], missing, np.array([1 - alpha, alpha]))
    np.testing.assert_allclose(found[..., 0], 0, atol=2e-3)


@given(alpha=st.floats(0, 1))
def test_it_is_handed_over_little_by_little(alpha: float) -> None:
    """Nothing jumps: a step of a hundredth changes less than a tenth."""
    missing = np.zeros((1, 1, 2), np.float32)
    missing[..., 0] = 1

    def given_by_the_first(alpha: float) -> float:
        own = np.array([1 - alpha, alpha])
        return float(after(own[None, None].astype(np.float32), missing, own)[0, 0, 0])

    later = min(alpha + 0.01, 1.0)
    assert abs(given_by_the_first(alpha) - given_by_the_first(later)) < 0.1


# --- real photos -------------------------------------------------------------------------------


def grace() -> NDArray[np.uint8]:
    return np.asarray(Image.open(GRACE_HOPPER).convert("RGB"))


CROPPED = (slice(80, 350), slice(115, 385))
"""The face of Grace Hopper and nothing else."""


@pytest.fixture(scope="module")
def morpher() -> Morpher:
    return Morpher(size=256)


@pytest.fixture(scope="module")
def pair(morpher: Morpher) -> list[MorphFace]:
    return morpher.faces([np.ascontiguousarray(grace()[CROPPED]), astronaut()])


def test_the_picture_beyond_the_photo_is_the_others(
    morpher: Morpher, pair: list[MorphFace]
) -> None:
    """From alpha = SOON on nothing that was made up is seen: any other filling gives that frame."""
    first, second = (face.layer for face in pair)
    assert first.lacking is not None
    made_up = first.lacking == 1
    other = replace(first, photo=np.where(made_up[..., None], 255 - first.photo, first.photo))
    for alpha in (SOON, 0.5):
        one, two = (
            morpher.between([each, second]).frame(alpha).astype(int) for each in (first, other)
        )
        assert np.abs(one - two)[made_up].mean() < 1
    ends = [morpher.between([each, second]).frame(0.0) for each in (first, other)]
    assert (ends[0] != ends[1])[made_up].any()  # at the end there is nothing else to show


def test_the_ends_are_exact(morpher: Morpher, pair: list[MorphFace]) -> None:
    sequence = morpher.sequence(pair, steps=3)
    np.testing.assert_array_equal(sequence.frames[0], pair[0].aligned.pixels)
    np.testing.assert_array_equal(sequence.frames[-1], pair[1].aligned.pixels)


@pytest.mark.parametrize("mode", ["full", "landmark"])
@pytest.mark.parametrize("compose", ["frame", "photo"])
def test_nothing_is_mirrored_into_a_frame(mode: Any, compose: Any) -> None:
    """Marks near the cropped photo's four edges: no frame shows one of them twice."""
    cropped = grace()[CROPPED].copy()
    for y, x in ((16, 135), (254, 135), (135, 16), (135, 254)):
        cropped[y - 7 : y + 7, x - 7 : x + 7] = (0, 255, 0)
    made = Morpher(mode=mode, compose=compose, size=256)
    frames = made.sequence(made.faces([cropped, astronaut()]), steps=8).frames
    seen = [_green_marks(frame) for frame in frames]
    assert seen[0] == 4
    assert max(seen) == 4


def _green_marks(picture: NDArray[np.uint8]) -> int:
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    marks = (green - np.maximum(red, blue) > 100).astype(np.uint8)
    areas = cv2.connectedComponentsWithStats(marks)[2][1:, cv2.CC_STAT_AREA]
    return int((areas > 20).sum())


def test_what_is_cropped_gives_its_surroundings_up_early(
    morpher: Morpher, pair: list[MorphFace]
) -> None:
    whole = morpher.faces([grace(), astronaut()])
    held = [
        Layers(morpher.bundle, [face.layer for face in faces])._preferred_around[0]
        for faces in (whole, pair)
    ]
    assert held[1] < held[0] - 1


def test_a_code_is_nearer_to_that_of_the_whole_photo_than_with_a_mirror(morpher: Morpher) -> None:
    landmarks = DlibDetector().detect(grace())[0].landmarks
    cropped = np.ascontiguousarray(grace()[CROPPED]), landmarks - [115, 80]

    def code(face: AlignedFace) -> NDArray[np.float32]:
        return morpher.bundle.encode(face.pixels[None], face.landmarks[None])[0]

    right = code(align_face(grace(), landmarks))
    mirrored, blurred = (
        float(np.linalg.norm(code(align_face(*cropped, beyond=way)) - right))
        for way in ("mirrored", "blurred")
    )
    assert blurred < mirrored
    own = align_face(
        cropped[0], choose_face(cropped[0], DlibDetector()).landmarks, beyond="blurred"
    )
    np.testing.assert_array_equal(morpher.face(cropped[0]).layer.code, code(own))


@pytest.mark.parametrize("compose", ["frame", "photo"])
def test_one_warning(compose: Any) -> None:
    face = Morpher(compose=compose).face(np.ascontiguousarray(grace()[CROPPED]))
    (doubt,) = face.doubts
    assert "ends close to the face" in doubt
    assert Morpher(compose=compose).face(grace()).doubts == ()


@given(top=st.integers(0, 3), left=st.integers(0, 3))
@settings(max_examples=4, deadline=None)
def test_a_photo_in_which_all_is_there_has_nothing_made_up(top: int, left: int) -> None:
    face = MORPHER.face(np.ascontiguousarray(astronaut()[top:, left:]))
    assert face.layer.lacking is None
    assert not lacking_in(face.aligned.to_frame, face.aligned.photo_size, 64).any()


MORPHER = Morpher(size=64)
