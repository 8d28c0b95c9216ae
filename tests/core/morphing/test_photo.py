"""Whole photos: exact at the ends, no seam around the frame, no photo that ends too early."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.geometry import apply_affine, compose_affine, similarity
from facemorph_core.alignment.photo import load_photo
from facemorph_core.morphing.canvas import Canvas, canvas_size
from facemorph_core.morphing.engine import Morpher, MorphFace
from facemorph_core.morphing.layers import Face, Layers
from facemorph_core.morphing.view import View
from tests.core.faces import GRACE_HOPPER, astronaut

HALF = np.array([[0.5, 0.5]])
CORNER = (slice(0, 4), slice(0, 60))


@pytest.fixture(scope="module")
def morpher() -> Morpher:
    return Morpher(compose="photo")


@pytest.fixture(scope="module")
def faces(morpher: Morpher) -> list[MorphFace]:
    return [morpher.face(photo) for photo in (GRACE_HOPPER, astronaut())]


@pytest.mark.parametrize("mode", ["full", "landmark"])
def test_the_ends_are_the_whole_photos(faces: list[MorphFace], mode: Any) -> None:
    there = Morpher(mode=mode, compose="photo").sequence(faces, steps=3)
    np.testing.assert_array_equal(there.frames[0], load_photo(GRACE_HOPPER))
    back = Morpher(mode=mode, compose="photo").sequence(faces[::-1], steps=2)
    np.testing.assert_array_equal(back.frames[0], faces[1].layer.photo)
    assert there.frames[-1].shape == there.frames[0].shape  # the first photo's shape throughout


@pytest.mark.parametrize("mode", ["latent", "landmark"])
def test_outside_the_frame_photos_fade_and_nothing_else(faces: list[MorphFace], mode: Any) -> None:
    """The border of the picture is the plain fade of both photos where they lie by themselves."""
    found = Morpher(mode=mode, compose="photo").blend(faces, HALF).frames[0]
    photo = faces[0].layer.photo
    other = np.asarray(_covered(faces[1].layer, photo.shape[:2]))
    faded = (photo.astype(float) + other) / 2
    assert np.abs(found[CORNER] - faded[CORNER]).mean() < 3


def test_outside_the_frame_one_photo_is_seen_and_not_two(
    morpher: Morpher, faces: list[MorphFace]
) -> None:
    found = morpher.blend(faces, HALF).frames[0].astype(float)
    photo = faces[0].layer.photo
    other = _covered(faces[1].layer, photo.shape[:2])
    away = [np.abs(found[CORNER] - each[CORNER]).mean() for each in (photo, other)]
    assert min(away) < 3 < max(away)


def _covered(face: Face, size: tuple[int, int]) -> NDArray[np.uint8]:
    canvas = Canvas.of([face], size)
    (left, top), (right, bottom) = apply_affine(
        canvas.placed[0], np.array([[-0.5, -0.5], [size[1] - 0.5, size[0] - 0.5]])
    )
    box = left + 0.5, top + 0.5, right + 0.5, bottom + 0.5
    picture = Image.fromarray(face.photo)
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC, box=box))


def test_there_is_no_seam_around_the_frame(morpher: Morpher, faces: list[MorphFace]) -> None:
    """At the frame's edge the picture is that of the photo which surrounds it."""
    layers = [face.layer for face in faces]
    found = morpher.blend(faces, HALF).frames[0].astype(float)
    view = Canvas.of(layers, found.shape[:2]).view(HALF[0])
    plain = Layers(morpher.bundle, layers, "landmark")
    code = layers[0].code
    differences = [
        np.abs(found - plain.frame(code, HALF[0], weights, view)).mean(axis=-1)
        for weights in np.eye(2)
    ]
    depth = _depth(view)
    edge = np.abs(depth) < 1.0
    difference = min(differences, key=lambda each: float(each[edge].mean()))
    assert edge.sum() > 300
    assert difference[edge].mean() < 3.0
    assert difference[depth > 30].mean() > 6  # inside they do differ


def _depth(view: View) -> NDArray[np.float64]:
    """Pixels of the frame from its edge, positive inside."""
    y, x = np.mgrid[: view.size[0], : view.size[1]]
    there = apply_affine(view.to_frame, np.stack([x.ravel(), y.ravel()], axis=1).astype(float))
    inside = np.minimum(there + 0.5, 127.5 - there).min(axis=1)
    return np.asarray(inside.reshape(view.size))


@given(
    turn=st.floats(-0.5, 0.5),
    scale=st.floats(0.1, 3),
    x=st.floats(-300, 100),
    y=st.floats(-300, 100),
    h=st.integers(20, 400),
    w=st.integers(20, 400),
)
@settings(max_examples=60)
def test_every_photo_covers_the_picture(
    turn: float, scale: float, x: float, y: float, h: int, w: int
) -> None:
    photo = np.zeros((h, w, 3), np.uint8)
    nothing = np.zeros((128, 128, 3), np.uint8)
    face = Face(nothing, np.zeros((68, 2)), np.zeros(2), photo, similarity(turn, scale, (x, y)))
    canvas = Canvas.of([face], (90, 60))
    corners = np.array([[-0.5, -0.5], [59.5, 89.5]])
    low, high = apply_affine(canvas.placed[0], corners)
    assert (low >= -0.5 - 1e-6).all()
    assert (high <= [w - 0.5 + 1e-6, h - 0.5 + 1e-6]).all()
    view = canvas.view(np.ones(1))
    np.testing.assert_allclose(
        view.to_frame, compose_affine(face.to_frame, canvas.placed[0]), atol=1e-6
    )


def test_a_face_at_the_side_stays_in_the_picture(faces: list[MorphFace]) -> None:
    """A wide photo is cut to a narrow picture around its face, not around its middle."""
    own = faces[0].layer
    wide = np.pad(own.photo, ((0, 0), (1500, 0), (0, 0)))
    to_frame = compose_affine(own.to_frame, similarity(0.0, 1.0, (-1500.0, 0.0)))
    moved = Face(own.pixels, own.landmarks, own.code, wide, to_frame)
    view = Canvas.of([moved], (600, 512)).view(np.ones(1))
    middle = (np.array([63.5, 63.5]) - view.to_frame[:, 2]) @ np.linalg.inv(view.to_frame[:, :2]).T
    assert (middle > 60).all()
    assert (middle < [450, 540]).all()


def test_a_picture_is_as_large_as_the_photo_up_to_a_limit() -> None:
    assert canvas_size(np.zeros((600, 512, 3), np.uint8), 2048) == (600, 512)
    assert canvas_size(np.zeros((6000, 3000, 3), np.uint8), 2048) == (2048, 1024)


@pytest.mark.parametrize("compose", ["frame", "photo"])
def test_transparency_goes_through_and_leaves_no_fringe(compose: Any) -> None:
    photos = []
    for photo, hidden in ((load_photo(GRACE_HOPPER), 0), (astronaut(), 255)):
        opacity = np.full(photo.shape[:2], 255, np.uint8)
        opacity[:60] = 0
        coloured = photo.copy()
        coloured[:60] = hidden  # what lies under transparency must not show
        photos.append(np.dstack([coloured, opacity]))
    morpher = Morpher(mode="landmark", compose=compose, size=600)
    faces = [morpher.face(photo) for photo in photos]
    frames = morpher.sequence(faces, steps=3).frames
    assert frames.shape[-1] == 4
    np.testing.assert_array_equal(frames[0][..., 3], faces[0].layer.photo[..., 3])
    opaque = frames[0][..., 3] == 255
    np.testing.assert_array_equal(frames[0][opaque], faces[0].layer.photo[opaque])
    plain = Morpher(mode="landmark", compose=compose, size=600)
    whole = [plain.face(photo) for photo in (load_photo(GRACE_HOPPER), astronaut())]
    truth = plain.sequence(whole, steps=3).frames[1].astype(int)
    same = frames[1][..., 3] == 255
    assert np.abs(frames[1][same][:, :3] - truth[same]).mean() < 0.1


@pytest.mark.parametrize("mode", ["full", "landmark"])
def test_an_opaque_photo_and_one_with_transparency_go_together(mode: Any) -> None:
    clear = np.dstack([astronaut(), np.full((512, 512), 255, np.uint8)])
    clear[:100, :, 3] = 0
    morpher = Morpher(mode=mode, compose="photo")
    opaque = load_photo(GRACE_HOPPER)
    frames = morpher.sequence([morpher.face(opaque), morpher.face(clear)], steps=9).frames
    assert (frames[0][..., 3] == 255).all()
    assert frames[-1][0, 256, 3] == 0
    opacity = frames[:, 0, 256, 3].astype(int)
    assert (np.diff(opacity) <= 0).all()
    if mode == "landmark":
        assert 100 < opacity[4] < 155
    else:
        assert min(opacity[4], 255 - opacity[4]) < 5  # one photo's, there or not there
    for frame in frames:  # what is there has the opaque photo's colours: nothing turns black
        there = frame[0, :, 3] > 30
        away = np.abs(frame[0, there, :3].astype(int) - opaque[0, there])
        assert not there.any() or away.mean() < 20


@pytest.mark.parametrize("compose", ["frame", "photo"])
def test_a_photo_whose_opacity_is_full_morphs_like_one_without(compose: Any) -> None:
    morpher = Morpher(mode="full", compose=compose, size=256)
    photos = (load_photo(GRACE_HOPPER), astronaut())
    opaque = [np.dstack([each, np.full(each.shape[:2], 255, np.uint8)]) for each in photos]
    plain, clear = (
        morpher.sequence([morpher.face(each) for each in given], steps=9).frames.astype(int)
        for given in (photos, opaque)
    )
    assert (clear[..., 3] == 255).all()
    assert np.abs(clear[..., :3] - plain).max() <= 1


@pytest.mark.parametrize("compose", ["frame", "photo"])
def test_where_one_photo_alone_is_there_it_has_its_own_colours(compose: Any) -> None:
    """A portrait cut out as a circle morphs with one that is not."""
    rows, columns = np.mgrid[:512, :512]
    inside = np.hypot(rows - 110, columns - 225) < 80
    photos = (load_photo(GRACE_HOPPER), np.dstack([astronaut(), np.uint8(255) * inside]))
    full = Morpher(mode="full", compose=compose, size=256)
    plain = full.but(mode="landmark")
    faces = [full.face(photo) for photo in photos]
    seen, warped = (each.sequence(faces, steps=21) for each in (full, plain))
    for number in (8, 10, 13, 14):
        own, other = seen.frames[number].astype(int), warped.frames[number].astype(int)
        alone = other[..., 3] < 255 * (1 - seen.alphas[number]) + 2
        there = alone & (own[..., 3] > 30)
        assert there.any()
        assert np.abs(own[there] - other[there])[:, :3].mean() < 8
