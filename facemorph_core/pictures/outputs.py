"""Names of outputs, what is wanted there, and what is refused before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facemorph_core.disk.output import check_writable, is_pipe
from facemorph_core.errors import OutputError
from facemorph_core.pictures.encoders import check_encoder, check_sides
from facemorph_core.pictures.formats import FPS, HOLD, PICTURE_SUFFIXES, SUFFIXES
from facemorph_core.pictures.room import HELD_WHOLE, check_disk, check_memory, file_size
from facemorph_core.pictures.series import Series, plain_name, series_of
from facemorph_core.pictures.sheet import sheet_size
from facemorph_core.pictures.sides import Frame, side_lengths

__all__ = [
    "Film",
    "Kind",
    "Outcome",
    "Output",
    "Saved",
    "can_be_encoded",
    "check_output",
    "check_room",
]

Kind = Literal["film", "sheet", "picture"]
"""What becomes of the frames: something that plays, a contact sheet, or the one frame there is."""


@dataclass(frozen=True, slots=True)
class Output:
    """A name, and what is wanted there; films and pictures may be a folder of PNG frames."""

    name: Path | str
    kind: Kind = "film"

    @property
    def series(self) -> Series | None:
        """The PNG files, one a frame, if it names them."""
        return None if self.kind == "sheet" else series_of(self.name)

    @property
    def path(self) -> Path:
        """The single file."""
        return Path(self.name) if self.kind == "sheet" else plain_name(self.name)


@dataclass(frozen=True, slots=True)
class Saved:
    """How a film is saved."""

    fps: float = FPS
    """Frames a second."""
    hold: float = HOLD
    """Seconds that frames which show a photo stay longer."""
    size: int | None = None
    """Longer side of the pictures, pixels; None: as they are."""
    force: bool = False
    """What exists is replaced."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an output: its files, or why there are none."""

    output: Output
    files: tuple[Path, ...] = ()
    problem: OutputError | None = None

    def written(self) -> list[Path]:
        """Its files.

        Raises:
            OutputError: the problem, if there was one.
        """
        if self.problem is not None:
            raise self.problem
        return list(self.files)


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """Frames that are made when they are asked for, and what is known of them beforehand."""

    frames: Callable[[], Iterable[Frame]]
    """(h, w, 3 or 4) each, one after the other."""
    shape: tuple[int, int, int]
    """Of each frame, (h, w, C)."""
    alphas: Sequence[float]
    """Where each is between the photos."""
    held: Sequence[int] = (0, -1)
    """Numbers of those that are shown longer."""
    ends: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
    """The photos, if the frames at the ends are not they."""
    labels: bool = True
    """A contact sheet tells the alphas."""


def check_output(
    out: Output | Path | str,
    *,
    force: bool = False,
    count: int = 1,
    inputs: Sequence[Path] = (),
) -> None:
    """Refuse ``out`` before any work for what `write_film` would fail at after."""
    output = out if isinstance(out, Output) else Output(out)
    if output.series:
        output.series.check(count, force=force, inputs=inputs)
        return
    path = output.path
    known = SUFFIXES if output.kind == "film" else PICTURE_SUFFIXES
    if path.suffix.lower() not in known:
        raise OutputError(
            f"{output.name}: its suffix is none of {', '.join(known)}",
            hint="end the name in '/' for a folder of PNG frames",
        )
    if output.kind == "picture" and count > 1:
        raise OutputError(
            f"{output.name} is one picture, and {count} frames are asked for",
            hint="name a folder ('/' at its end), or a number: morph-%02d.png",
        )
    check_writable(path, force=force, inputs=inputs)


def can_be_encoded(output: Output) -> OutputError | None:
    """Why there is nothing to write it with, if there is not."""
    try:
        if output.series is None:
            check_encoder(output.path.suffix.lower())
    except OutputError as problem:
        return problem
    return None


def check_room(
    film: Film, outputs: Sequence[Output], *, size: int | None = None, making: int = 0
) -> None:
    """Refuse a film that its formats, the disk or the memory have no room for, before it is made.

    ``making`` is what making frames takes, bytes.
    """
    count = len(film.alphas)
    h, w = side_lengths(*film.shape[:2], size)
    frame = h * w * film.shape[2]
    disk: dict[Path, int] = {}
    memory = making + (2 * len(outputs) + 1) * frame  # each has one at work and one that waits
    for output in outputs:
        series, path = output.series, output.path
        suffix = ".png" if series else path.suffix.lower()
        needed = file_size(suffix, count, frame)
        if output.kind == "sheet":
            _, sides = sheet_size(count + 2, (h, w))
            check_sides(suffix, *sides)
            memory += 2 * 3 * sides[0] * sides[1]
        elif suffix != ".gif":
            check_sides(suffix, h, w)
            memory += needed if suffix in HELD_WHOLE else 0
        if not is_pipe(path):
            folder = series.folder if series else path.parent
            disk[folder] = disk.get(folder, 0) + needed
    frames = f"{count} frames of {w}x{h} pixels" if count > 1 else f"a picture of {w}x{h} pixels"
    advice = "choose a smaller --size" + (", or fewer --steps" if count > 2 else "")
    check_disk(disk, frames, advice=advice)
    check_memory(memory, f"to make {frames}", advice=advice)
