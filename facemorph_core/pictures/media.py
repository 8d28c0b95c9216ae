"""Frames -> files that play, sheets and folders of pictures, by the names of the outputs.

Frames are made once, one at a time, and go to all outputs together, so that memory does not grow
with their number. Every file is written whole or not at all, and what one output lacks stops no
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.photo import on_white
from facemorph_core.disk.output import written_whole
from facemorph_core.errors import OutputError
from facemorph_core.machine.threads import taken_by_all
from facemorph_core.pictures.encoders import ENCODERS, write_picture
from facemorph_core.pictures.formats import FPS, HOLD
from facemorph_core.pictures.outputs import (
    Film,
    Outcome,
    Output,
    Saved,
    can_be_encoded,
    check_output,
)
from facemorph_core.pictures.pace import seconds_of
from facemorph_core.pictures.png import write_png
from facemorph_core.pictures.provenance import Note, Provenance
from facemorph_core.pictures.series import Series, written_series
from facemorph_core.pictures.sheet import Sheet
from facemorph_core.pictures.sides import Frame, fitted, side_lengths

__all__ = ["write_film", "write_frames"]


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
    return outcome.written()


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
