"""Faces of any size and at any angle are found, the one that is meant first; doubts are said."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from facemorph_core.alignment import DlibDetector, mean_shape
from facemorph_core.alignment.align import choose_face
from facemorph_core.alignment.doubts import is_a_face, turn_of
from facemorph_core.alignment.frame import eye_centres, shape_basis
from facemorph_core.alignment.geometry import Points, apply_affine, similarity
from facemorph_core.alignment.landmarks import DetectedFace
from facemorph_core.alignment.photo import load_photo
from facemorph_core.alignment.search import SAME, Sight, merged, ranked
from facemorph_core.errors import NoFaceFound
from tests.core.faces import CELEBA, GREY, astronaut, grace, grace_turned

WILD = CELEBA.parent / "wild"


@cache
def upright() -> DetectedFace:
    return DlibDetector().detect(np.asarray(grace()))[0]


def turned(angle: float) -> tuple[NDArray[np.uint8], Points]:
    """The portrait turned clockwise, and where its landmarks are then."""
    return grace_turned(angle, upright().landmarks)


# --- at any angle ------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.floats(13, 347))
def test_a_turned_head_has_the_landmarks_that_it_has_upright(angle: float) -> None:
    image, wanted = turned(angle)
    face = choose_face(image, DlibDetector())
    between = np.linalg.norm(np.subtract(*eye_centres(wanted)))
    away = np.linalg.norm(face.landmarks - wanted, axis=1).mean()
    assert away < 0.04 * between
    off = (turn_of(face.landmarks) - turn_of(wanted) + 180) % 360 - 180
    assert abs(off) < 3


@pytest.mark.parametrize("angle", [45, 90, 135, 180])
def test_that_it_is_turned_is_said(angle: int) -> None:
    (doubt,) = choose_face(turned(angle)[0], DlibDetector()).doubts
    assert doubt.startswith("the face is turned by")
    said = int(doubt.split()[-2])
    assert abs(said - angle) < 5


def test_an_upright_portrait_leaves_no_doubt() -> None:
    assert choose_face(np.asarray(grace()), DlibDetector()).doubts == ()


@pytest.mark.parametrize("angle", [22, 68, 158])
def test_in_a_large_photo_too_halfway_between_the_turns_that_are_tried(angle: int) -> None:
    large = grace().resize((6 * grace().width, 6 * grace().height), Image.Resampling.BICUBIC)
    image = np.asarray(large.rotate(-angle, Image.Resampling.BICUBIC, expand=True, fillcolor=GREY))
    face = choose_face(image, DlibDetector())
    assert abs(turn_of(face.landmarks) - angle) < 4
    assert face.score >= 1


# --- of any size -------------------------------------------------------------------------------


def small_in_12_megapixels() -> NDArray[np.uint8]:
    wall = Image.new("RGB", (4000, 3000), (150, 150, 150))
    wall.paste(grace().resize((300, 352)), (3100, 400))
    return np.asarray(wall)


def one_near_four_far() -> NDArray[np.uint8]:
    group = Image.new("RGB", (2400, 1600), (90, 110, 130))
    group.paste(grace().resize((1000, 1172)), (50, 300))
    eileen = Image.fromarray(astronaut()).crop((130, 0, 330, 260)).resize((120, 156))
    for number in range(4):
        group.paste(eileen, (1200 + 280 * number, 250 + 130 * (number % 2)))
    return np.asarray(group)


def test_a_small_face_in_a_large_photo_is_found() -> None:
    face = choose_face(small_in_12_megapixels(), DlibDetector())
    assert (face.landmarks > (3100, 400)).all()
    assert (face.landmarks < (3400, 752)).all()


def test_in_a_group_everybody_has_a_number_the_nearest_the_first() -> None:
    image = one_near_four_far()
    faces = DlibDetector().detect(image)
    assert len(faces) == 5
    assert faces[0].box[2] < 1050
    for number in (2, 3, 4, 5):
        assert choose_face(image, DlibDetector(), number).box[0] > 1200
    quick = DlibDetector().detect_first(image)
    assert np.array_equal(quick[0].landmarks, faces[0].landmarks)


@pytest.mark.data
@pytest.mark.skipif(not WILD.is_dir(), reason=f"no photos at {WILD}")
@pytest.mark.parametrize(
    ("photo", "middle"),
    [
        ("102157", (197, 169)),  # a dark-skinned woman with glasses
        ("034966", (414, 363)),  # hair over half of the face, in the dark
        ("046532", (182, 179)),  # a football player on the ground
        ("083240", (110, 76)),  # a face of 52 pixels, and a larger thing that looks like one
    ],
)
def test_a_face_that_the_detector_alone_does_not_see_is_found(
    photo: str, middle: tuple[int, int]
) -> None:
    face = choose_face(load_photo(WILD / f"{photo}.jpg"), DlibDetector())
    left, top, right, bottom = face.box
    away = np.hypot((left + right) / 2 - middle[0], (top + bottom) / 2 - middle[1])
    assert away < 0.2 * (right - left)


# --- the one that is meant ---------------------------------------------------------------------


@pytest.mark.parametrize("colour", [0.6, 0.7, 0.8, 0.9, 1.0, 1.2])
def test_a_badge_is_not_taken_for_the_face(colour: float) -> None:
    """With less colour the detector also sees one on the astronaut's arm, and it is larger."""
    picture = ImageEnhance.Color(Image.fromarray(astronaut())).enhance(colour)
    face = choose_face(np.asarray(picture), DlibDetector())
    assert (np.abs(eye_centres(face.landmarks) - [[203, 101], [246, 104]]) < 4).all()
    assert face.score > 1


@pytest.mark.parametrize("name", ["coffee", "rocket", "chelsea", "hubble_deep_field"])
def test_where_no_face_is_none_is_found(name: str) -> None:
    image = np.ascontiguousarray(getattr(skimage.data, name)()[..., :3])
    with pytest.raises(NoFaceFound, match="turned in steps of 45 degrees"):
        choose_face(image, DlibDetector())


def test_of_two_that_are_nearly_as_large_the_other_is_named() -> None:
    both = Image.new("RGB", (2 * grace().width, grace().height))
    both.paste(grace(), (0, 0))
    both.paste(grace(), (grace().width, 0))
    doubts = choose_face(np.asarray(both), DlibDetector()).doubts
    assert any("--face 2" in doubt for doubt in doubts)
    assert choose_face(np.asarray(both), DlibDetector(), 2).doubts == ()


def test_that_a_face_is_small_or_cut_is_said() -> None:
    small = grace().resize((grace().width // 6, grace().height // 6))
    assert any("small" in doubt for doubt in choose_face(np.asarray(small), DlibDetector()).doubts)
    _, top, right, bottom = map(round, upright().box)
    cut = np.asarray(grace())[top - 60 : bottom + 60, (right + round(upright().box[0])) // 2 - 60 :]
    faces = DlibDetector().detect(np.ascontiguousarray(cut))
    if faces:  # a half face is not always one
        doubts = choose_face(np.ascontiguousarray(cut), DlibDetector()).doubts
        assert any("cut" in doubt for doubt in doubts)


# --- what makes one face of many sights --------------------------------------------------------

sights = st.lists(
    st.builds(
        Sight.square,
        centre=st.tuples(st.floats(0, 300), st.floats(0, 300)),
        side=st.floats(20, 200),
        score=st.floats(-0.2, 3),
        turn=st.sampled_from([0.0, 45.0, -90.0, 180.0]),
    ),
    max_size=12,
)


def shared(a: Sight, b: Sight) -> float:
    """Slowly: which of 100 x 100 points of the smaller square lie in the larger."""
    small, large = sorted((a, b), key=lambda each: each.side)
    left, top, right, bottom = small.box
    x = left + (right - left) * (np.arange(100) + 0.5) / 100
    y = top + (bottom - top) * (np.arange(100) + 0.5) / 100
    across = (x >= large.box[0]) & (x <= large.box[2])
    down = (y >= large.box[1]) & (y <= large.box[3])
    return float(across.mean() * down.mean())


@given(sights)
def test_no_face_is_seen_twice_and_none_is_lost(found: list[Sight]) -> None:
    kept = merged(found)
    assert merged(kept) == kept
    for number, one in enumerate(kept):
        assert all(shared(one, other) < SAME + 0.02 for other in kept[:number])
    for one in found:
        assert any(shared(one, other) > SAME - 0.02 for other in kept)
        nearest = [other for other in kept if shared(one, other) > SAME - 0.02]
        assert max(other.certainty for other in nearest) > one.certainty - 0.5 or one in kept


@given(sights)
def test_they_are_ranked_by_size_among_clear_ones_and_doubtful_ones_come_later(
    found: list[Sight],
) -> None:
    order = ranked(found)
    clear = [each.side for each in order if each.score >= 1]
    assert clear == sorted(clear, reverse=True)
    for one in order:
        for other in order[order.index(one) + 1 :]:
            assert one.side >= other.side or one.certainty >= other.certainty


# --- landmarks that can be a face's ------------------------------------------------------------


@given(st.lists(st.floats(-2, 2), min_size=24, max_size=24), st.floats(-3.14, 3.14))
def test_every_shape_of_the_basis_is_a_face_wherever_it_is(
    numbers: list[float], angle: float
) -> None:
    shape = shape_basis().decode_shape(np.array(numbers))
    assert is_a_face(apply_affine(similarity(angle, 3.0, (500.0, -20.0)), shape))


def test_points_in_disorder_are_none() -> None:
    rng = np.random.default_rng(0)
    assert not is_a_face(rng.permutation(mean_shape()))
    assert not is_a_face(mean_shape() * [1, -1])
    assert not is_a_face(mean_shape() + rng.normal(scale=6, size=(68, 2)))
