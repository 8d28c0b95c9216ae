"""Frames -> a file that plays or a folder of pictures, by the name of the output.

Every file is written whole or not at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.photo import on_white
from facemorph_core.disk.output import check_folder, check_writable, output_error, written_whole
from facemorph_core.errors import OutputError
from facemorph_core.pictures.encoders import ENCODERS, Frames, resized, write_png
from facemorph_core.pictures.formats import FPS, HOLD, PLAYED_SIZE, SUFFIXES
from facemorph_core.pictures.provenance import Note, Provenance
from facemorph_core.pictures.sheet import draw_sheet

__all__ = ["check_output", "write_frames"]

_PATTERN = re.compile(r"%0?\d*d")


def write_frames(
    frames: Frames,
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

    ``out`` ends in .gif, .mp4, .webp or .png (a contact sheet with the photos ``ends`` around the
    frames and ``alphas`` below), or is a folder ("/" at its end) or a pattern such as
    "morph-%03d.png" for one PNG each. ``size`` is the longer side of the pictures, pixels. The
    frames of the numbers ``held`` stay ``hold`` seconds longer. With ``provenance`` every file says
    where it comes from. None of the ``inputs`` is replaced.

    Raises:
        OutputError: another suffix, a file that exists (without ``force``), one of the inputs, or
            no room.
    """
    check_output(out, force=force, count=len(frames), inputs=inputs)
    places = [float(each) for each in (range(len(frames)) if alphas is None else alphas)]

    def note(*shown: float) -> Note | None:
        return provenance.note(shown) if provenance else None

    series = _series(out, len(frames))
    if series:
        _make_folder(series[0].parent)
        pictures = resized(frames, size)
        for frame, name, place in zip(pictures, series, places, strict=True):
            with written_whole(name, force=force) as temporary:
                write_png(Image.fromarray(frame), temporary, note(place))
        return series
    path = Path(out)
    with written_whole(path, force=force) as temporary:
        if path.suffix.lower() == ".png":
            labels = None if alphas is None else [f"{each:.2f}" for each in places]
            opaque = np.stack([on_white(frame) for frame in resized(frames, size)])
            sheet = draw_sheet(opaque, ends=ends, labels=labels)
            write_png(sheet, temporary, note(*places))
        else:
            shown = resized(frames, size or max(PLAYED_SIZE, *frames.shape[1:3]))
            seconds = _seconds(len(frames), fps, hold, held)
            ENCODERS[path.suffix.lower()](shown, temporary, seconds, note(*places))
    return [path]


def check_output(
    out: Path | str, *, force: bool = False, count: int = 1, inputs: Sequence[Path] = ()
) -> None:
    """Refuse ``out`` before any work for what `write_frames` would refuse it for after."""
    series = _series(out, count)
    if series:
        check_folder(next(place for place in series[0].parents if place.exists()))
    elif Path(out).suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{out}: its suffix is none of {', '.join(SUFFIXES)}",
            hint="end the name in '/' for a folder of PNG frames",
        )
    for path in series or [Path(out)]:
        if path.exists() or not series:
            check_writable(path, force=force, inputs=inputs)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error


def _series(out: Path | str, count: int) -> list[Path]:
    """The files of a series of PNG frames; empty if ``out`` is a single file."""
    text, name = str(out), Path(out).name
    if name.lower().endswith(".png") and _PATTERN.search(name):
        folder = Path(out).parent
    elif text.endswith(("/", os.sep)) or Path(out).is_dir():
        folder, name = Path(out), "frame-%03d.png"
    else:
        return []
    number = _PATTERN.search(name)
    assert number is not None
    before, after = name[: number.start()], name[number.end() :]
    return [folder / f"{before}{number[0] % index}{after}" for index in range(count)]


def _seconds(count: int, fps: float, hold: float, held: Sequence[int]) -> list[float]:
    """How long each frame is shown."""
    seconds = np.full(count, 1 / fps)
    seconds[np.unique(np.arange(count)[list(held)])] += hold
    return [float(each) for each in seconds]
