"""A series of pictures, one PNG a frame: their names, and what an older series left beside them.

A series is a folder ("/" at its end; frame-000.png and so on) or a name with the place of the
number in it as ffmpeg writes it: morph-%03d.png, where "%%" is a percent sign. A "%" that no number
can be meant by, as in "100%done.png", is a percent sign too.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facemorph_core.disk.output import (
    check_apart,
    check_folder,
    check_writable,
    output_error,
    reported_output,
)
from facemorph_core.errors import OutputError
from facemorph_core.pictures.png import says_who_made_it

__all__ = ["Series", "plain_name", "series_of", "written_series"]

IN_FOLDER = "frame-%03d.png"
_NUMBER = re.compile(r"%(0?\d*)d(?![A-Za-z])|%%")


@dataclass(frozen=True, slots=True)
class Series:
    """Where the pictures of a series go."""

    folder: Path
    pattern: str

    def file(self, number: int) -> Path:
        """Of the frame of this number, from 0 on."""
        shown = _NUMBER.sub(lambda m: "%" if m[0] == "%%" else _counted(m[1], number), self.pattern)
        return self.folder / shown

    def files(self, count: int) -> list[Path]:
        return [self.file(number) for number in range(count)]

    def left_over(self, count: int) -> list[Path]:
        """What an older, longer series has beyond ``count``, up to the first gap."""
        found: list[Path] = []
        while (path := self.file(count + len(found))).is_file():
            found.append(path)
        return found

    def check(self, count: int, *, force: bool, inputs: Sequence[Path]) -> None:
        """Refuse now for what would stop `written_series` after the work is done."""
        with reported_output(self.folder):
            if self.folder.exists() and not self.folder.is_dir():
                raise OutputError(f"{self.folder} is a file; a folder is needed")
            around = (self.folder, *self.folder.absolute().parents)
            check_folder(next(place for place in around if place.exists()))
            for path in self.files(count):
                if path.exists():
                    check_writable(path, force=force, inputs=inputs)
            left = self.left_over(count)
        check_apart(left, inputs)
        if left and not force:
            raise OutputError(
                f"{left[0]} exists already",
                hint="choose another name with -o, or overwrite with --force",
            )
        _check_ours(left, count)


def series_of(out: Path | str) -> Series | None:
    """The series that ``out`` names; None if it is a single file.

    Raises:
        OutputError: a name with two numbers.
    """
    text, name = str(out), Path(out).name
    with reported_output(Path(out)):
        is_folder = text.endswith(("/", os.sep)) or Path(out).is_dir()
    if is_folder:
        return Series(Path(out), IN_FOLDER)
    numbers = [each[0] for each in _NUMBER.finditer(name) if each[0] != "%%"]
    if not name.lower().endswith(".png") or not numbers:
        return None
    if len(numbers) > 1:
        raise OutputError(
            f"{out}: only one number can be in a name, and it has {' and '.join(numbers)}",
            hint="write %% for a percent sign",
        )
    return Series(Path(out).parent, name)


def plain_name(out: Path | str) -> Path:
    """The single file that ``out`` names: "%%" is a percent sign in any PNG's name."""
    path = Path(out)
    return path.with_name(path.name.replace("%%", "%")) if path.suffix.lower() == ".png" else path


@contextlib.contextmanager
def written_series(series: Series, count: int) -> Iterator[list[Path]]:
    """Temporary files that become the series on success; nothing of an older one stays beyond it.

    On any failure what was there is untouched.
    """
    made = [each for each in (series.folder, *series.folder.parents) if not each.exists()]
    try:
        series.folder.mkdir(parents=True, exist_ok=True)
        hidden = series.folder / f".frames.{secrets.token_hex(4)}"
        hidden.mkdir()
    except OSError as error:
        raise output_error(error, series.folder) from error
    try:
        temporary = [hidden / f"{number}.png" for number in range(count)]
        yield temporary
        for each, file in zip(temporary, series.files(count), strict=True):
            each.replace(file)
        for old in series.left_over(count):
            old.unlink()
    except OSError as error:
        raise output_error(error, series.folder) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # it holds the series
                folder.rmdir()


def _counted(width: str, number: int) -> str:
    return f"%{width}d" % number


def _check_ours(left: Sequence[Path], count: int) -> None:
    """Frames that we cannot have made are not ours to remove."""
    with reported_output(left[0] if left else Path()):
        strange = [path for path in left if not says_who_made_it(path)]
    if strange:
        others = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise OutputError(
            f"{strange[0]}{others} would stay behind the {count} frames of this series, and "
            "nothing in them says that facemorph-core made them",
            hint="remove them, or choose another folder",
        )
