"""Which photos of whom are morphed: a table of pairs, as people write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from facemorph_core.alignment.align import FaceChoice, face_choice
from facemorph_core.disk.tables import Row, read_table
from facemorph_core.errors import PairsError

__all__ = ["FilePair", "read_pairs"]

NEEDED, OTHERS = ("a", "b"), ("a_other", "b_other")
FACE = "face"
FACES = tuple(f"{FACE}_{photo}" for photo in (*NEEDED, *OTHERS))


@dataclass(frozen=True, slots=True)
class FilePair:
    """Two photos, and perhaps another one of each person; of each photo, which face."""

    a: Path
    b: Path
    a_other: Path | None = None
    b_other: Path | None = None
    face_a: FaceChoice = "largest"
    face_b: FaceChoice = "largest"
    face_a_other: FaceChoice = "largest"
    face_b_other: FaceChoice = "largest"
    line: int = field(default=0, compare=False)
    """Of the table that it is from; 0 if it is from none."""


def read_pairs(
    table: Path, *, faces: tuple[FaceChoice, FaceChoice] = ("largest", "largest")
) -> list[FilePair]:
    """The rows of a CSV file with the columns a and b, and a_other and b_other if they are known.

    Paths are relative to the file's folder. A column face says which face of all photos of a line
    is meant, face_a and so on which of one photo; where they are empty, ``faces`` says it of a and
    b. `disk.tables` says what may be written how.

    Raises:
        PairsError: it cannot be read, lacks a column, or holds no pair; lines that cannot be used
            are told together.
    """
    default = dict(zip(NEEDED, faces, strict=True))
    pairs = read_table(
        table,
        lambda row: _pair(row, table.parent, default),
        needed=NEEDED,
        also=(*OTHERS, FACE, *FACES),
    )
    if not pairs:
        raise PairsError(f"{table} holds no pair")
    return pairs


def _pair(row: Row, folder: Path, default: Mapping[str, FaceChoice]) -> FilePair:
    """What a line says; ValueError if it says too little or what is no face."""

    def photo(name: str) -> Path | None:
        return folder / row.cells[name] if row.cells[name] else None

    def face(name: str) -> FaceChoice:
        said = row.cells[f"{FACE}_{name}"] or row.cells[FACE]
        return face_choice(said) if said else default.get(name, "largest")

    a, b, a_other, b_other = (photo(name) for name in (*NEEDED, *OTHERS))
    if a is None or b is None:
        raise ValueError("both a and b are needed")
    faces = face("a"), face("b"), face("a_other"), face("b_other")
    return FilePair(a, b, a_other, b_other, *faces, row.line)
