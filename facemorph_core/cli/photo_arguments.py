"""PHOTO[=WEIGHT] on a command line: a photo, a folder of photos, or a pattern such as "*.jpg".

What exists is what is meant, whatever its name; a pattern that came in quotes, or through a shell
that leaves it alone, is looked up here. A folder means the photos that lie directly in it.
"""

from __future__ import annotations

import glob
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from facemorph_core.alignment.photo_names import PHOTO_SUFFIXES
from facemorph_core.errors import PhotoError
from facemorph_core.machine.printable import tell

__all__ = ["Given", "given_photos", "names_of", "natural_key"]


@dataclass(frozen=True, slots=True)
class Given:
    """One argument: the photos that it means, each with this weight."""

    photos: list[Path]
    weight: float
    folder: Path | None = None
    """That it named, with a name that others can be made of."""
    searched: bool = False
    """Whether it named none of them: a folder or a pattern."""


def given_photos(texts: Iterable[str]) -> list[Given]:
    """What each argument means; how many files of a folder are left out is said on stderr.

    Raises:
        PhotoError: a folder or a pattern that means no photo.
        typer.BadParameter: a weight that is none.
    """
    return [_given(text) for text in texts]


def names_of(given: Sequence[Given]) -> list[Path]:
    """What a result is named after: folders, and photos that were named or found."""
    return [name for each in given for name in ([each.folder] if each.folder else each.photos)]


def natural_key(path: Path) -> list[tuple[tuple[int | str, ...], str]]:
    """By which 2.jpg comes before 10.jpg, in each folder.

    Examples:
        >>> sorted(map(Path, ["b10.jpg", "B2.jpg", "a/x.jpg"]), key=natural_key) == [
        ...     Path("a/x.jpg"), Path("B2.jpg"), Path("b10.jpg")]
        True
    """
    return [(_with_numbers(part), part) for part in path.parts]


def _with_numbers(text: str) -> tuple[int | str, ...]:
    """Text and whole numbers in turn, text first."""
    parts = re.split(r"(\d+)", text.casefold())
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts))


def _given(text: str) -> Given:
    whole = _meant(text, 1.0)
    name, equals, number = text.rpartition("=")
    if whole is not None or not equals:
        return whole or _missing(text, 1.0)
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise typer.BadParameter(
            f"'{text}' is no file, and '{number}' behind its '=' no weight: a number above 0"
        )
    if not name:
        raise typer.BadParameter(f"'{text}' has a weight, but no photo")
    return _meant(name, weight) or _missing(name, weight)


def _meant(text: str, weight: float) -> Given | None:
    """What exists by this name, else what the pattern finds; None if there is nothing."""
    path = Path(text)
    if os.path.isdir(text):  # noqa: PTH112 - nothing, and a name too long, are no error to it
        photos = _told(text, _inside(path), hint=f'or a pattern: "{path}/*/*.jpg"')
        return Given(photos, weight, _named(path), searched=True)
    if os.path.isfile(text):  # noqa: PTH113
        return Given([path], weight)
    if not _is_pattern(text):
        return None
    found = [Path(each) for each in glob.glob(text, recursive=True)]  # noqa: PTH207 - as shells do
    within = [inner for each in found if each.is_dir() for inner in _inside(each)]
    files = dict.fromkeys([*(each for each in found if not each.is_dir()), *within])
    if not found:
        return None
    return Given(_told(text, files, hint="or other patterns"), weight, searched=True)


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise PhotoError(folder, f"cannot be looked into: {error.strerror or error}") from error


def _missing(text: str, weight: float) -> Given:
    if _is_pattern(text):
        raise PhotoError(text, "no file has such a name", hint="a pattern is as in a shell: *.jpg")
    return Given([Path(text)], weight)  # whoever opens it says what is wrong with it


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _named(folder: Path) -> Path:
    return folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))  # noqa: PTH100


def _told(text: str, entries: Iterable[Path], *, hint: str) -> list[Path]:
    """The photos among files, in natural order; what is none of them is counted, and said."""
    photos, others = [], Counter[str]()
    for entry in entries:
        kind = _kind(entry)
        if kind == "photo":
            photos.append(entry)
        else:
            others[kind] += 1
    left_out = ", ".join(
        f"{count} {_plural(kind, count)}" for kind, count in sorted(others.items())
    )
    if not photos:
        said = f"holds no photo (but {left_out})" if left_out else "holds no photo"
        raise PhotoError(text, said, hint=f"name a folder whose photos lie directly in it, {hint}")
    if left_out:
        found = f"{len(photos)} {_plural('photo', len(photos))}"
        tell(f"{text}: {found}, without {left_out}", err=True)
    return sorted(photos, key=natural_key)


def _kind(entry: Path) -> str:
    if entry.is_dir():
        return "folder"
    if entry.name.startswith("."):
        return "hidden file"
    return "photo" if entry.suffix.lower() in PHOTO_SUFFIXES else "other file"


def _plural(kind: str, count: int) -> str:
    return kind if count == 1 else f"{kind}s"
