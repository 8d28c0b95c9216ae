"""The pictures that the detectors are compared on, and what is known of the face in each.

CelebA's pictures were cut by its annotators' eyes: in each of them these lie at ANNOTATED, whatever
a detector says. What is made of a photo (turned, shrunk into another picture) has its known point
where the photo's has gone.

References:
    | Deep Learning Face Attributes in the Wild (Liu et al., 2015)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.geometry import (
    Affine,
    Points,
    apply_affine,
    compose_affine,
    rescaling,
    similarity,
)
from facemorph_core.alignment.photo import load_photo
from facemorph_core.alignment.resample import resample
from facemorph_core.shards.sources import celeba, folder, orl

__all__ = [
    "ANNOTATED",
    "SCENE",
    "Picture",
    "Sets",
    "all_of_val",
    "brought",
    "scene",
    "sets_of",
    "without_a_face",
]

ANNOTATED = np.array([[69.0, 111.0], [108.0, 111.0]])
"""Eye centres in a picture of 178 x 218 pixels of CelebA, (x, y)."""
TURNS = (30, 60, 90, 135, 180, -45)
"""Degrees, clockwise."""
BETWEEN_EYES = (24, 16, 12, 8)
"""Pixels, of a face in a picture of SCENE."""
SCENE = (800, 1200)
NUDGED = "turned by 5 degrees, shifted"
NO_FACES = (
    *("coffee.png", "rocket.jpg", "chelsea.png", "hubble_deep_field.jpg", "retina.jpg"),
    *("ihc.png", "brick.png", "grass.png", "gravel.png", "coins.png", "moon.png", "page.png"),
    *("clock_motion.png", "motorcycle_left.png", "text.png", "horse.png"),
)
"""Of scikit-image. Greek coins show heads in relief, which count as no faces here."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One that a detector is shown."""

    name: str
    person: str
    file: Path
    attributes: Mapping[str, int] = field(default_factory=dict)
    way: Affine | None = None
    """From the photo to what is shown; None shows the photo itself."""
    size: tuple[int, int] = (0, 0)
    """(h, w) of what is shown, with ``way``."""
    eyes: Points | None = None
    """(2, 2), where they are known to be in what is shown."""

    def pixels(self, scene: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """(h, w, 3) RGB; what lies beyond the photo is the ``scene``, or grey."""
        photo = load_photo(self.file)
        return photo if self.way is None else brought(photo, self.way, self.size, scene)


Sets = dict[str, list[Picture]]


def brought(
    photo: NDArray[np.uint8],
    way: Affine,
    size: tuple[int, int],
    scene: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """The photo under ``way`` in a picture of ``size``, before a scene."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    inverse = np.linalg.inv(np.vstack([way, [0, 0, 1]]))
    there = np.stack([x, y, np.ones_like(x)], axis=-1) @ inverse.T
    h, w = photo.shape[:2]
    held = (there[..., 0] > -0.5) & (there[..., 0] < w - 0.5)
    held &= (there[..., 1] > -0.5) & (there[..., 1] < h - 0.5)
    beyond = np.full((*size, 3), 127, np.uint8) if scene is None else scene
    return np.where(held[..., None], resample(photo, way, size=size), beyond).astype(np.uint8)


def sets_of(data: Path, wild: Path | None, *, people: int, made: int) -> Sets:
    """Name -> pictures: one photo each of CelebA's val people, and what is made of some of them."""
    photos = [photo for photo in celeba(data) if photo.split == "val"]
    first = {photo.person: photo for photo in reversed(photos)}
    plain = [
        Picture(photo.name, photo.person, photo.path, photo.attributes, eyes=ANNOTATED)
        for photo in list(first.values())[:people]
    ]
    found: Sets = {"CelebA, aligned": plain}
    if wild is not None:
        known = {photo.name.split("/")[-1]: photo.attributes for photo in celeba(data)}
        found["from the web"] = [
            Picture(photo.name, photo.person, photo.path, known.get(photo.path.name, {}))
            for photo in folder(wild)
        ]
    found[NUDGED] = [_nudged(each) for each in plain]
    found["ORL"] = [Picture(each.name, each.person, each.path) for each in orl()[::4]]
    for turn in TURNS:
        found[f"turned by {turn} degrees"] = [_turned(each, turn) for each in plain[:made]]
    for between in BETWEEN_EYES:
        found[f"{between} px between the eyes"] = [_small(each, between) for each in plain[:made]]
    return found


def all_of_val(data: Path) -> list[Picture]:
    """Every photo of CelebA's val people, for what is missed seldom."""
    return [
        Picture(photo.name, photo.person, photo.path, photo.attributes, eyes=ANNOTATED)
        for photo in celeba(data)
        if photo.split == "val"
    ]


def without_a_face() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Pictures of things, each also upside down and in quarters."""
    import skimage

    for name in NO_FACES:
        whole = load_photo(Path(skimage.__file__).parent / "data" / name)
        h, w = whole.shape[0] // 2, whole.shape[1] // 2
        yield name, whole
        yield f"{name}, upside down", np.ascontiguousarray(whole[::-1, ::-1])
        for top in (0, h):
            for left in (0, w):
                part = whole[top : top + h, left : left + w]
                yield f"{name}, from {left}, {top}", np.ascontiguousarray(part)


def scene() -> NDArray[np.uint8]:
    """A table with a cup, in the size of SCENE."""
    import skimage.data

    picture = skimage.data.coffee()
    scale = SCENE[1] / picture.shape[1]
    return resample(picture, rescaling(scale), size=SCENE)


def _turned(picture: Picture, degrees: float) -> Picture:
    """On grey, with its middle in the middle."""
    side = 300
    turn = similarity(math.radians(degrees), 1.0, (0.0, 0.0))
    middle = apply_affine(turn, np.array([[88.5, 108.5]]))[0]
    x, y = ((side - 1) / 2 - middle).tolist()
    return _moved(picture, compose_affine(similarity(0.0, 1.0, (x, y)), turn), (side, side))


def _nudged(picture: Picture) -> Picture:
    """By 5 degrees about the eyes and by a fraction of a pixel."""
    x, y = ANNOTATED.mean(axis=0).tolist()
    turn = similarity(math.radians(5), 1.0, (0.0, 0.0))
    there = apply_affine(turn, np.array([[x, y]]))[0]
    back = similarity(0.0, 1.0, (x - float(there[0]) + 3.3, y - float(there[1]) - 2.6))
    return _moved(picture, compose_affine(back, turn), (218, 178))


def _small(picture: Picture, between: float) -> Picture:
    """At the side of a scene, where a table ends."""
    scale = between / math.dist(*ANNOTATED.tolist())
    shift = similarity(0.0, 1.0, (0.7 * SCENE[1], 0.2 * SCENE[0]))
    return _moved(picture, compose_affine(shift, rescaling(scale)), SCENE)


def _moved(picture: Picture, way: Affine, size: tuple[int, int]) -> Picture:
    eyes = apply_affine(way, ANNOTATED)
    return Picture(picture.name, picture.person, picture.file, {}, way, size, eyes)
