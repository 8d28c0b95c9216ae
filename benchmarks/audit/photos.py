"""Photos in memory as a site has them, public ones only: the ORL faces, and made-up extremes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.schema import DataConfig
from facemorph_core.shards.cache import shard_for


@dataclass(frozen=True)
class Photos:
    """All of one split, "train"."""

    pixels: NDArray[np.uint8]
    marks: NDArray[np.float32]
    missing: int | None = None
    """A row that is not there; the others keep their numbers."""

    @property
    def size(self) -> int:
        """Side of the photos, pixels."""
        return int(self.pixels.shape[1])

    @property
    def people(self) -> list[str]:
        """Everybody is somebody else."""
        return [f"person {row}" for row in range(len(self.pixels))]

    @property
    def source_digests(self) -> list[str]:
        """None: they are told apart by their pixels."""
        return [""] * len(self.pixels)

    def rows(self, split: str) -> NDArray[np.int64]:
        """All rows of "train"."""
        every = np.arange(len(self.pixels) if split == "train" else 0, dtype=np.int64)
        return every[every != self.missing] if self.missing is not None else every

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of these rows."""
        return self.pixels[rows]

    def landmarks(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Landmarks of these rows."""
        return self.marks[rows]

    def without(self, row: int) -> Photos:
        """All but one."""
        return replace(self, missing=row)

    def only(self, rows: NDArray[np.int64]) -> Photos:
        """Some of them."""
        return Photos(self.pixels[rows], self.marks[rows])


def orl_photos(count: int, *, seed: int, by_person: bool = False) -> Photos:
    """``count`` of the ORL faces, aligned, in random order; ``by_person`` one after the other."""
    shard = shard_for(DataConfig(source="orl"), seed=0)
    rows = np.random.default_rng(seed).permutation(len(shard))
    if by_person:
        order = {
            person: place
            for place, person in enumerate(dict.fromkeys(shard.people[r] for r in rows))
        }
        rows = np.array(sorted(rows, key=lambda row: order[shard.people[row]]))
    rows = rows[:count]
    return Photos(shard.images(rows), shard.landmarks(rows))


def extremes(count: int, size: int, *, seed: int) -> Photos:
    """Photos as unlike each other as can be: black, white, noise, and faces between them."""
    rng = np.random.default_rng(seed)
    faces = orl_photos(count, seed=seed).pixels
    pixels = np.stack([cv2.resize(face, (size, size)) for face in faces])
    pixels[::4], pixels[1::4] = 0, 255
    pixels[2::4] = rng.integers(0, 256, pixels[2::4].shape, dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)  # no photo is there twice
    away = rng.normal(scale=size / 64, size=(count, 68, 2))
    return Photos(pixels, (mean_shape(size) + away).astype(np.float32))
