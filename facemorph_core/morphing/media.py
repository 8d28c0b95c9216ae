"""Frames -> a file that plays or a folder of pictures, by the name of the output.

Frames are (n, S, S, 3) uint8 RGB. Every file is written whole or not at all, and carries a note
that it is synthetic.
"""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from facemorph_core.errors import OutputError
from facemorph_core.morphing.sheet import draw_sheet
from facemorph_core.output import check_folder, check_writable, output_error, written_whole

Frames = NDArray[np.uint8]

FPS = 15.0
HOLD = 0.5
"""Seconds that the frames which show a photo stay longer."""
PLAYED_SIZE = 256
"""Side of what is written to GIF, MP4 and WebP unless a size is asked for, pixels."""
NOTE = "Synthetic image: a face morph made with facemorph-core."
_PATTERN = re.compile(r"%0?\d*d")
_PALETTE_PIXELS = 2**14  # that the palette is chosen from; more take longer than they gain
_IMAGE_DESCRIPTION = 0x010E  # Exif tag


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
    labels: Sequence[str] | None = None,
) -> list[Path]:
    """Write ``frames`` and return the paths that were written.

    ``out`` ends in .gif, .mp4, .webp or .png (a contact sheet with the photos ``ends`` around the
    frames and ``labels`` below), or is a folder ("/" at its end) or a pattern such as
    "morph-%03d.png" for one PNG each. ``size`` is the side of the pictures, pixels. The frames of
    the numbers ``held`` stay ``hold`` seconds longer.

    Raises:
        OutputError: another suffix, a file that exists (without ``force``), or no room.
    """
    check_output(out, force=force, count=len(frames))
    series = _series(out, len(frames))
    if series:
        return _write_series(resized(frames, size), series, force=force)
    path = Path(out)
    with written_whole(path, force=force) as temporary:
        if path.suffix.lower() == ".png":
            _save(temporary, draw_sheet(resized(frames, size), ends=ends, labels=labels))
        else:
            shown = resized(frames, size or max(PLAYED_SIZE, frames.shape[1]))
            seconds = _seconds(len(frames), fps, hold, held)
            _WRITERS[path.suffix.lower()](shown, temporary, fps, seconds)
    return [path]


def check_output(out: Path | str, *, force: bool = False, count: int = 1) -> None:
    """Refuse ``out`` before any work for what `write_frames` would refuse it for after."""
    series = _series(out, count)
    if series:
        check_folder(next(place for place in series[0].parents if place.exists()))
    elif Path(out).suffix.lower() not in KNOWN:
        raise OutputError(
            f"{out}: its suffix is none of {', '.join(KNOWN)}",
            hint="end the name in '/' for a folder of PNG frames",
        )
    for path in series or [Path(out)]:
        if path.exists() or not series:
            check_writable(path, force=force)


def resized(frames: Frames, size: int | None) -> Frames:
    """Square frames at ``size`` pixels a side (Lanczos); None leaves them as they are."""
    if size is None or frames.shape[1:3] == (size, size):
        return frames
    pictures = (Image.fromarray(frame) for frame in frames)
    return np.stack(
        [np.asarray(each.resize((size, size), Image.Resampling.LANCZOS)) for each in pictures]
    )


def _write_gif(frames: Frames, path: Path, fps: float, seconds: Sequence[float]) -> None:
    palette = _common_palette(frames)
    pictures = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        for frame in frames
    ]
    # GIF counts in hundredths of a second, and browsers slow down what is shorter than two
    hundredths = (max(round(100 * each), 2) for each in seconds)
    _save(path, *pictures, duration=[10 * each for each in hundredths], comment=NOTE.encode())


def _write_webp(frames: Frames, path: Path, fps: float, seconds: Sequence[float]) -> None:
    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = NOTE
    durations = [round(1000 * each) for each in seconds]
    pictures = [Image.fromarray(frame) for frame in frames]
    _save(path, *pictures, duration=durations, quality=90, exif=exif)


def _write_mp4(frames: Frames, path: Path, fps: float, seconds: Sequence[float]) -> None:
    """H.264 as browsers want it: yuv420p, even sides, the index in front."""
    pictures = _even(frames)
    height, width = pictures.shape[1:3]
    repeats = [max(1, round(each * fps)) for each in seconds]
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps:g} -i - -an"
    matrix = "-vf scale=out_color_matrix=bt709:out_range=tv"
    tags = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv"
    target = f"-c:v libx264 -crf 16 -pix_fmt yuv420p {tags} -movflags +faststart"
    options = f"-v error -y {source} {matrix} {target}".split()
    result = ["-metadata", f"comment={NOTE}", str(path.absolute())]
    data = np.repeat(pictures, repeats, axis=0).tobytes()
    _run_ffmpeg([_ffmpeg(), *options, *result], data)


_WRITERS: dict[str, Callable[[Frames, Path, float, Sequence[float]], None]] = {
    ".gif": _write_gif,
    ".mp4": _write_mp4,
    ".webp": _write_webp,
}
KNOWN = (*_WRITERS, ".png")
"""The suffixes of a single output file."""


def _ffmpeg() -> str:
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise OutputError(
            "there is no ffmpeg to write a video with",
            hint="name one in IMAGEIO_FFMPEG_EXE, or write a .gif or .webp",
        ) from error


def _run_ffmpeg(command: Sequence[str], data: bytes) -> None:
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=complaints)
        try:
            process.communicate(data)
        finally:
            process.kill()
            process.wait()
        complaints.seek(0)
        text = complaints.read().decode(errors="replace").strip()
    if "No space left" in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if process.returncode:
        reason = text.splitlines()[-1] if text else "no reason given"
        raise OutputError(f"ffmpeg could not write the video: {reason}")


def _write_series(frames: Frames, names: Sequence[Path], *, force: bool) -> list[Path]:
    try:
        names[0].parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, names[0].parent) from error
    for frame, name in zip(frames, names, strict=True):
        with written_whole(name, force=force) as temporary:
            _save(temporary, Image.fromarray(frame))
    return list(names)


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


def _save(path: Path, first: Image.Image, *rest: Image.Image, **settings: Any) -> None:
    """Encode in memory, then write: Pillow hides why a write failed."""
    buffer = io.BytesIO()
    if path.suffix.lower() == ".png":
        note = PngImagePlugin.PngInfo()
        note.add_text("Description", NOTE)
        first.save(buffer, "PNG", pnginfo=note)
    else:
        form = path.suffix[1:].upper()
        first.save(buffer, form, save_all=True, append_images=rest, loop=0, **settings)
    path.write_bytes(buffer.getvalue())


def _seconds(count: int, fps: float, hold: float, held: Sequence[int]) -> list[float]:
    """How long each frame is shown."""
    seconds = np.full(count, 1 / fps)
    seconds[np.unique(np.arange(count)[list(held)])] += hold
    return [float(each) for each in seconds]


def _common_palette(frames: Frames) -> Image.Image:
    """256 colours for all frames together: a palette for each would flicker."""
    pixels = frames.reshape(-1, 3)
    chosen = pixels[np.linspace(0, len(pixels) - 1, _PALETTE_PIXELS).astype(int)]
    sample = Image.fromarray(chosen.reshape(-1, 128, 3))
    return sample.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)


def _even(frames: Frames) -> Frames:
    """Repeat the last row or column where a side is odd: 4:2:0 video needs pairs."""
    odd_h, odd_w = (side % 2 for side in frames.shape[1:3])
    return np.pad(frames, ((0, 0), (0, odd_h), (0, odd_w), (0, 0)), mode="edge")
