"""Which photos are morphed into which: from a table of files or from the faces of a shard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.align import FaceChoice, align_photo
from facemorph_core.alignment.frame import FRAME_SIZE
from facemorph_core.alignment.geometry import Points, rescaling
from facemorph_core.errors import PairsError
from facemorph_core.morphing.engine import Morpher
from facemorph_core.morphing.layers import Face
from facemorph_core.morphing.pair_table import FilePair, read_pairs
from facemorph_core.shards.shard import Shard

__all__ = [
    "Case",
    "ChainPairs",
    "FilePair",
    "FilePairs",
    "FramedFace",
    "Pairs",
    "ShardPairs",
    "read_pairs",
]

STILL = rescaling(1.0)


@dataclass(frozen=True, slots=True, eq=False)
class FramedFace:
    """An aligned face: what a judge looks at."""

    pixels: NDArray[np.uint8]
    """(128, 128, 3)."""
    landmarks: Points


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A pair, ready to be morphed and judged."""

    names: tuple[str, str]
    """Who they are; pairs that share somebody are not independent."""
    faces: tuple[Face, Face]
    others: tuple[FramedFace | None, FramedFace | None]
    """Another photo of each, if there is one."""


class Pairs(Protocol):
    """Cases by number."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def case(self, number: int, morpher: Morpher) -> Case:
        """The case of this number, 0 to len - 1, with codes by the morpher's model."""
        ...

    def names(self, number: int) -> tuple[str, str]:
        """Who is in it."""
        ...


class ShardPairs:
    """Different people of a shard, everyone about equally often, their photos in turn."""

    def __init__(self, shard: Shard, split: str, count: int, *, seed: int = 0) -> None:
        """Draw ``count`` pairs.

        Raises:
            PairsError: fewer than two people have two photos or more.
        """
        self.shard, self.split = shard, split
        rng = np.random.default_rng(seed)
        photos: dict[str, list[int]] = {}
        for row in shard.rows(split).tolist():
            photos.setdefault(shard.people[row], []).append(row)
        several = {who: rng.permutation(rows) for who, rows in photos.items() if len(rows) > 1}
        if len(several) < 2:
            raise PairsError(
                f"{len(several)} people of the split '{split}' have two photos or more; a pair "
                "takes two people, each with another photo that judges the likeness"
            )
        self.rows: list[tuple[int, int, int, int]] = []
        turn = 0
        while len(self.rows) < count:
            order = rng.permutation(sorted(several)).tolist()
            for one, other in zip(order[::2], order[1::2], strict=False):
                a, a_other, b, b_other = (
                    int(several[who][(turn + later) % len(several[who])])
                    for who in (one, other)
                    for later in (0, 1)
                )
                self.rows.append((a, b, a_other, b_other))
            turn += 1
        self.rows = self.rows[:count]

    def __len__(self) -> int:
        return len(self.rows)

    def case(self, number: int, morpher: Morpher) -> Case:
        """As `Pairs.case`."""
        rows = np.array(self.rows[number])
        pixels, landmarks = self.shard.images(rows), self.shard.landmarks(rows).astype(np.float64)
        codes = morpher.bundle.encode(pixels[:2], landmarks[:2], fit=morpher.fit)
        first, second = (
            Face(*each, pixels[place], STILL)
            for place, each in enumerate(zip(pixels[:2], landmarks[:2], codes, strict=True))
        )
        others = FramedFace(pixels[2], landmarks[2]), FramedFace(pixels[3], landmarks[3])
        return Case(self.names(number), (first, second), others)

    def names(self, number: int) -> tuple[str, str]:
        """As `Pairs.names`."""
        a, b, *_ = self.rows[number]
        return self.shard.people[a], self.shard.people[b]


@dataclass(frozen=True, slots=True, eq=False)
class ChainPairs:
    """Faces that are at hand, each with the next; there is no other photo of anybody."""

    faces: list[Face]
    labels: list[str]
    """One for each face."""

    def __len__(self) -> int:
        return len(self.faces) - 1

    def case(self, number: int, morpher: Morpher) -> Case:
        """As `Pairs.case`; the codes are those that the faces have."""
        first, second = (
            replace(face, photo=face.pixels, to_frame=STILL)
            for face in self.faces[number : number + 2]
        )
        return Case(self.names(number), (first, second), (None, None))

    def names(self, number: int) -> tuple[str, str]:
        """As `Pairs.names`."""
        return self.labels[number], self.labels[number + 1]


@dataclass(frozen=True, slots=True)
class FilePairs:
    """Pairs of photo files."""

    pairs: list[FilePair]

    def __len__(self) -> int:
        return len(self.pairs)

    def case(self, number: int, morpher: Morpher) -> Case:
        """As `Pairs.case`.

        Raises:
            PhotoError: a photo cannot be read or holds no face.
        """
        pair = self.pairs[number]
        found = morpher.faces((pair.a, pair.b), (pair.face_a, pair.face_b))
        first, second = (each.layer for each in found)
        others = (
            _other(pair.a_other, pair.face_a_other, morpher),
            _other(pair.b_other, pair.face_b_other, morpher),
        )
        return Case(self.names(number), (first, second), others)

    def names(self, number: int) -> tuple[str, str]:
        """As `Pairs.names`: a face of a file stands for a person."""
        pair = self.pairs[number]
        return _person(pair.a, pair.face_a), _person(pair.b, pair.face_b)


def _person(photo: Path, face: FaceChoice) -> str:
    return f"{photo}, face {face}" if isinstance(face, int) and face > 1 else str(photo)


def _other(photo: Path | None, face: FaceChoice, morpher: Morpher) -> FramedFace | None:
    if photo is None:
        return None
    found = align_photo(photo, morpher.detector, face=face, size=FRAME_SIZE)
    return FramedFace(found.pixels, found.landmarks)
