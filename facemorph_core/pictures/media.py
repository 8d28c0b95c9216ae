"""Frames -> files that play, sheets and folders of pictures, by the names of the outputs.

Frames are made once, one at a time, and go to all outputs together, so that memory does not grow
with their number. Every file is written whole or not at all, and what one output lacks stops no
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.photo import on_white
from facemorph_core.disk.output import check_writable, is_pipe, written_whole
from facemorph_core.errors import OutputError
from facemorph_core.machine.threads import taken_by_all
from facemorph_core.pictures.encoders import ENCODERS, check_encoder, check_sides, write_picture
from facemorph_core.pictures.formats import FPS, HOLD, PICTURE_SUFFIXES, SUFFIXES
from facemorph_core.pictures.pace import seconds_of
from facemorph_core.pictures.png import write_png
from facemorph_core.pictures.provenance import Note, Provenance
from facemorph_core.pictures.room import HELD_WHOLE, check_disk, check_memory, file_size
from facemorph_core.pictures.series import Series, plain_name, series_of, written_series
from facemorph_core.pictures.sheet import Sheet, sheet_size
from facemorph_core.pictures.sides import Frame, fitted, side_lengths

__all__ = [
    "Film",
    "Kind",
    "Outcome",
    "Output",
    "Saved",
    "can_be_encoded",
    "check_output",
    "check_room",
    "write_film",
    "write_frames",
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


def write_frames(
    frames: NDArray[np.uint8],
    out: Path | str,
    *,
    fps: float = FPS,
    hold: float = HOLD,
    size: int | None = None,
    force: bool = False,
    held: Sequence[int] = (0, -1),
    ends: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None,
    alphas: Sequence[float] | None = None,
    provenance: Provenance | None = None,
    inputs: Sequence[Path] = (),
) -> list[Path]:
    """Write ``frames`` (n, h, w, 3 or 4) and return the paths that were written.

    ``out`` ends in .gif, .mp4, .webp, .mov, .webm, .avif, .apng or .png (a contact sheet with the
    photos ``ends`` around the frames and ``alphas`` below), or is a folder ("/" at its end) or a
    pattern such as "morph-%03d.png" for one PNG each. ``size`` is the longer side of the pictures,
    pixels; None leaves them as they are. The frames of the numbers ``held`` stay ``hold`` seconds
    longer. With ``provenance`` every file says where it comes from. None of the ``inputs`` is
    replaced.

    Raises:
        OutputError: another suffix, a file that exists (without ``force``), one of the inputs, no
            ffmpeg for a video, or no room.
    """
    output = Output(out)
    check_output(output, force=force, count=len(frames), inputs=inputs)
    _, height, width, channels = frames.shape
    film = Film(
        lambda: frames,
        (height, width, channels),
        alphas=[float(each) for each in (range(len(frames)) if alphas is None else alphas)],
        held=held,
        ends=ends,
        labels=alphas is not None,
    )
    saved = Saved(fps=fps, hold=hold, size=size, force=force)
    [outcome] = write_film(film, [output], saved, provenance)
    if outcome.problem is not None:
        raise outcome.problem
    return list(outcome.files)


def write_film(
    film: Film,
    outputs: Sequence[Output],
    saved: Saved,
    provenance: Provenance | None = None,
) -> list[Outcome]:
    """Write ``film`` to all ``outputs``, which were checked, and say what came of each.

    What cannot be written stops nothing else, and leaves nothing. The rest is as in `write_frames`.
    """
    seconds = seconds_of(len(film.alphas), fps=saved.fps, hold=saved.hold, held=film.held)

    def note(*shown: float) -> Note | None:
        return provenance.note(shown) if provenance else None

    problems = [can_be_encoded(each) for each in outputs]
    writers = [
        partial(_outcome, each, film, saved, seconds, note)
        for each, problem in zip(outputs, problems, strict=True)
        if problem is None
    ]
    frames = (fitted(frame, saved.size) for frame in film.frames())
    made = iter(taken_by_all(frames, writers))
    return [
        Outcome(each, problem=problem) if problem else next(made)
        for each, problem in zip(outputs, problems, strict=True)
    ]


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


def _outcome(
    output: Output,
    film: Film,
    saved: Saved,
    seconds: Sequence[float],
    note: Callable[..., Note | None],
    frames: Iterator[Frame],
) -> Outcome:
    path = output.path
    try:
        if output.series:
            files = _write_series(output.series, film, note, frames)
        else:
            with written_whole(path, force=saved.force) as temporary:
                said = note(*film.alphas)
                if output.kind == "sheet" or (output.kind == "film" and _is_png(output.name)):
                    write_picture(_sheet(film, frames, saved.size), temporary, said)
                elif output.kind == "picture":
                    [frame] = frames
                    write_picture(Image.fromarray(frame), temporary, said)
                else:
                    ENCODERS[path.suffix.lower()](frames, temporary, seconds, said)
            files = (path,)
    except OutputError as problem:
        return Outcome(output, problem=problem)
    return Outcome(output, files)


def _write_series(
    series: Series, film: Film, note: Callable[..., Note | None], frames: Iterator[Frame]
) -> tuple[Path, ...]:
    count = len(film.alphas)
    with written_series(series, count) as temporary:
        for frame, file, alpha in zip(frames, temporary, film.alphas, strict=True):
            write_png(Image.fromarray(frame), file, note(alpha))
    return tuple(series.files(count))


def _sheet(film: Film, frames: Iterator[Frame], size: int | None) -> Image.Image:
    labels = [f"{each:.2f}" for each in film.alphas] if film.labels else None
    count = len(film.alphas)
    sheet = Sheet(count, side_lengths(*film.shape[:2], size), ends=film.ends, labels=labels)
    for frame in frames:
        sheet.add(on_white(frame))
    return sheet.picture


def _is_png(out: Path | str) -> bool:
    return Path(out).suffix.lower() == ".png"
