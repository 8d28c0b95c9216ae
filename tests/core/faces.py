"""Builders of small real things: photos, landmarks, shards. No mocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.alignment.geometry import Affine, apply_affine, invert_affine, similarity
from facemorph_core.shards.shard import IndexRow, Shard, write_shard
from facemorph_core.shards.sources import orl

CELEBA = Path(__file__).parents[3] / "shared" / "data" / "celeba"
needs_celeba = pytest.mark.skipif(not CELEBA.is_dir(), reason=f"no CelebA at {CELEBA}")

GRACE_HOPPER = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def astronaut() -> NDArray[np.uint8]:
    """NASA's portrait of Eileen Collins, 512x512 (public domain)."""
    import skimage.data

    return skimage.data.astronaut()


GREY = (127, 127, 127)


@cache
def grace() -> Image.Image:
    """The portrait of Grace Hopper, 512x600."""
    return Image.open(GRACE_HOPPER).convert("RGB")


def grace_turned(
    angle: float, upright: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The portrait turned clockwise, on grey, and where its ``upright`` landmarks are then."""
    picture = grace().rotate(-angle, Image.Resampling.BICUBIC, expand=True, fillcolor=GREY)
    middle = (np.array(grace().size) - 1) / 2
    there = (np.array(picture.size) - 1) / 2
    turn = similarity(np.radians(angle), 1.0, (0.0, 0.0))
    return np.asarray(picture), apply_affine(turn, upright - middle) + there


def orl_photo(person: int, number: int) -> Path:
    return next(p.path for p in orl() if p.name == f"s{person}/{number}.pgm")


def landmarks_at(to_frame: Affine) -> NDArray[np.float64]:
    """Landmarks of a photo whose face lies exactly at the inverse of ``to_frame``."""
    return apply_affine(invert_affine(to_frame), mean_shape())


def smooth_picture(height: int, width: int) -> NDArray[np.uint8]:
    """Slow waves in three colours: survives any sensible resampling."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / 17), np.cos(y / 23), np.sin((x + y) / 29)]
    return np.rint(127.5 + 100 * np.stack(waves, axis=2)).astype(np.uint8)


def small_shard(
    out: Path,
    people: Mapping[str, int] | Sequence[str],
    *,
    held_out: Mapping[str, int] | None = None,
    attributes: Mapping[str, Mapping[str, int]] | None = None,
    seed: int = 0,
) -> Shard:
    """A shard of noise: person -> number of photos; ``attributes``: person -> name -> value."""
    counts = people if isinstance(people, Mapping) else dict.fromkeys(people, 1)
    rows = [
        IndexRow(person, split, f"{person}/{n}", (attributes or {}).get(person, {}))
        for split, group in (("train", counts), ("val", held_out or {}))
        for person, photos in group.items()
        for n in range(photos)
    ]
    rng = np.random.default_rng(seed)
    faces = rng.integers(0, 256, (len(rows), 128, 128, 3), dtype=np.uint8)
    landmarks = np.repeat(mean_shape()[None], len(rows), axis=0).astype(np.float32)
    return write_shard(out, faces, landmarks, rows, skipped=[{"photo": "x", "reason": "no face"}])


def folder_of_orl(root: Path, people: int, photos: int) -> Path:
    """``root/sN/M.png`` of the first people, as an operator's folder would be."""
    for photo in orl():
        number = int(photo.path.stem)
        if int(photo.person[1:]) <= people and number <= photos:
            (root / photo.person).mkdir(parents=True, exist_ok=True)
            Image.open(photo.path).save(root / photo.person / f"{number}.png")
    return root


def five_frames() -> NDArray[np.uint8]:
    """Coloured squares, (5, 128, 128, 3); the fourth is the third once more."""
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    frames[3] = frames[2]
    return frames
