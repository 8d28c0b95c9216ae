"""Files of 68 landmarks: a table with the columns x and y, or iBUG's .pts.

Convention:
    pixels of the upright photo. In a table the centre of the first pixel is (0, 0), as everywhere
    here; in .pts it is (1, 1), as in iBUG's own files.

References:
    | 300 Faces in-the-Wild Challenge (Sagonas, Tzimiropoulos, Zafeiriou & Pantic, 2013)
"""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np

from facemorph_core.alignment.frame import NUM_LANDMARKS
from facemorph_core.alignment.geometry import Points
from facemorph_core.disk.output import written_whole
from facemorph_core.errors import PhotoError

__all__ = ["SUFFIXES", "read_landmarks", "write_landmarks"]

SUFFIXES = (".csv", ".pts")
_BETWEEN = re.compile(r"[,;\s]+")
_LONGEST = 1 << 20


def read_landmarks(path: Path) -> Points:
    """The (68, 2) points of a file.

    Raises:
        PhotoError: it cannot be read, or does not hold 68 points; with the line.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise PhotoError(path, f"the landmarks cannot be read: {reason}") from error
    is_pts = text.lstrip().lower().startswith("version")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    said = [(number, line) for number, line in lines if line and not line.startswith("#")]
    given = _within_braces(said) if is_pts else _without_header(said)
    points = [_point(path, number, line) for number, line in given]
    if len(points) != NUM_LANDMARKS:
        raise PhotoError(
            path,
            f"holds {len(points)} landmarks, and {NUM_LANDMARKS} are needed",
            hint="facemorph-core faces PHOTO -o points.csv writes such a file, to be edited",
        )
    return np.array(points) - (1.0 if is_pts else 0.0)


def write_landmarks(path: Path, points: Points, *, force: bool = False) -> None:
    """The points (68, 2) as ``path`` says: .csv or .pts.

    Raises:
        OutputError: it exists (without ``force``) or cannot be written.
    """
    with (
        written_whole(path, force=force) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        if path.suffix.lower() == ".pts":
            rows = "\n".join(f"{x + 1:.3f} {y + 1:.3f}" for x, y in points.tolist())
            file.write(f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n")
        else:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("x", "y"))
            writer.writerows((f"{x:.3f}", f"{y:.3f}") for x, y in points.tolist())


def _within_braces(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    marks = [place for place, (_, line) in enumerate(lines) if line in ("{", "}")]
    return lines[marks[0] + 1 : marks[-1]] if len(marks) > 1 else []


def _without_header(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    is_header = lines and [each.lower() for each in _BETWEEN.split(lines[0][1])] == ["x", "y"]
    return lines[1:] if is_header else lines


def _point(path: Path, number: int, line: str) -> tuple[float, float]:
    try:
        x, y = map(float, _BETWEEN.split(line))
    except ValueError:
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise PhotoError(path, f"line {number} is no point x, y: {line[:40]!r}")
    return x, y
