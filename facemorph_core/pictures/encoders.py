"""Frames -> files: GIF, WebP, MP4, PNG and JPEG, each with its note.

Frames are (n, h, w, 3) uint8 RGB or (n, h, w, 4) RGBA; where a format knows no transparency they
lie on white. ``seconds`` says how long each frame stays. ``note`` is what
the file says of itself, None for a file that says nothing.
"""

from __future__ import annotations

import errno
import io
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from facemorph_core.alignment.colour import srgb_profile
from facemorph_core.alignment.photo import on_white
from facemorph_core.errors import OutputError
from facemorph_core.pictures.ffmpeg_program import ffmpeg_program
from facemorph_core.pictures.provenance import Note

__all__ = ["ENCODERS", "resized", "write_picture", "write_png"]

Frames = NDArray[np.uint8]

GIF_MEGABYTES = 10.0
"""What a GIF grows to before its pictures shrink: what most sites take."""
LARGEST = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500}
"""Pixels a side, by format."""
GIF_SIDE = 1024
"""Pixels of the longer side that a GIF starts from."""
_LEAST_SIDE = 32
_PALETTE_PIXELS = 2**14  # that the palette is chosen from; more take longer than they gain
_TRANSPARENT = 255  # the colour's number in a palette
_RELATIVE = 1  # how PNG's chunk sRGB says relative colorimetric
_IMAGE_DESCRIPTION = 0x010E  # Exif tag
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # XMP specification part 3, 1.1.5.3
_XMP_TRAILER = bytes([1, *range(255, -1, -1), 0])  # part 3, 1.1.2: sends any reader to the end


def write_gif(frames: Frames, path: Path, seconds: Sequence[float], note: Note | None) -> None:
    """At most GIF_MEGABYTES: pictures that take more are made smaller."""
    side = max(frames.shape[1:3])
    side = min(side, max(GIF_SIDE, 1))
    while True:
        data = _gif(resized(frames, side), seconds, note)
        over = len(data) / (GIF_MEGABYTES * 1e6)
        if over <= 1 or side <= _LEAST_SIDE:
            break
        side = max(_LEAST_SIDE, int(side * 0.97 / over**0.5))
    path.write_bytes(data)


def write_webp(frames: Frames, path: Path, seconds: Sequence[float], note: Note | None) -> None:
    """Colours as they are, or nearly: quality 90."""
    durations = [round(1000 * each) for each in seconds]
    first, *rest = (Image.fromarray(frame) for frame in frames)
    settings = {"save_all": True, "append_images": rest, "loop": 0, "quality": 90}
    path.write_bytes(_encoded(first, "WEBP", duration=durations, **settings, **_said(note)))


def write_mp4(frames: Frames, path: Path, seconds: Sequence[float], note: Note | None) -> None:
    """H.264 as browsers want it: yuv420p, even sides, the index in front."""
    height, width = (side + side % 2 for side in frames.shape[1:3])
    pace = 1 / min(seconds)
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {pace:g} -i - -an"
    matrix = "-vf scale=out_color_matrix=bt709:out_range=tv"
    tags = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv"
    target = f"-c:v libx264 -crf 16 -pix_fmt yuv420p {tags} -movflags +faststart"
    options = f"-v error -y {source} {matrix} {target} -fflags +bitexact -flags:v +bitexact".split()
    result = [] if note is None else ["-metadata", f"comment={note.sentence}"]
    shown = (
        _even(on_white(frame)).tobytes()
        for frame, stay in zip(frames, seconds, strict=True)
        for _ in range(max(1, round(stay * pace)))
    )
    _run_ffmpeg([ffmpeg_program(), *options, *result, str(path.absolute())], shown)
    if note is not None:
        with path.open("ab") as video:
            video.write((24 + len(note.xmp)).to_bytes(4, "big") + b"uuid" + _XMP_BOX + note.xmp)


def write_png(picture: Image.Image, path: Path, note: Note | None) -> None:
    """One picture, to the last bit."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", bytes([_RELATIVE]))
    if note is not None:
        chunks.add_text("Description", note.sentence)
        chunks.add_itxt("XML:com.adobe.xmp", note.xmp.decode())
    path.write_bytes(_encoded(picture, "PNG", pnginfo=chunks))


ENCODERS: dict[str, Callable[[Frames, Path, Sequence[float], Note | None], None]] = {
    ".gif": write_gif,
    ".mp4": write_mp4,
    ".webp": write_webp,
}
"""By suffix: files that play."""


def write_picture(picture: Image.Image, path: Path, note: Note | None) -> None:
    """One picture by its suffix: PNG to the last bit, JPEG and WebP at quality 95.

    Raises:
        OutputError: the picture is larger than the format holds.
    """
    largest = LARGEST.get(path.suffix.lower(), max(picture.size))
    if max(picture.size) > largest:
        width, height = picture.size
        raise OutputError(
            f"a picture of {width}x{height} pixels is too large for {path.suffix}, "
            f"which ends at {largest}",
            hint="write a .png, or choose a smaller --size",
        )
    match path.suffix.lower():
        case ".png":
            write_png(picture, path, note)
        case ".webp":
            path.write_bytes(_encoded(picture, "WEBP", quality=95, **_said(note)))
        case _:
            opaque = Image.fromarray(on_white(np.asarray(picture)))
            path.write_bytes(_encoded(opaque, "JPEG", quality=95, subsampling=0, **_said(note)))


def resized(frames: Frames, size: int | None) -> Frames:
    """With ``size`` pixels on the longer side (Lanczos); None leaves them as they are."""
    height, width = frames.shape[1:3]
    if size is None or max(height, width) == size:
        return frames
    factor = size / max(height, width)
    smaller = max(1, round(width * factor)), max(1, round(height * factor))
    pictures = (Image.fromarray(frame) for frame in frames)
    return np.stack(
        [np.asarray(each.resize(smaller, Image.Resampling.LANCZOS)) for each in pictures]
    )


def _said(note: Note | None) -> dict[str, Any]:
    """Pillow's settings for the note and for the colours, sRGB, in the formats that have Exif."""
    colours = {"icc_profile": srgb_profile()}
    if note is None:
        return colours
    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = note.sentence
    return {**colours, "exif": exif, "xmp": note.xmp}


def _gif(frames: Frames, seconds: Sequence[float], note: Note | None) -> bytes:
    palette = _common_palette(frames)
    first, *rest = (_quantised(frame, palette) for frame in frames)
    # GIF counts in hundredths of a second, and browsers slow down what is shorter than two
    hundredths = (max(round(100 * each), 2) for each in seconds)
    settings: dict[str, Any] = {} if note is None else {"comment": note.sentence.encode()}
    if frames.shape[3] == 4:
        settings |= {"transparency": _TRANSPARENT, "disposal": 2, "optimize": False}
    durations = [10 * each for each in hundredths]
    listed = {"save_all": True, "append_images": rest, "loop": 0, "duration": durations}
    data = _encoded(first, "GIF", **listed, **settings)
    if note is None:
        return data
    start = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 128 else 0)  # past the palette
    block = b"\x21\xff\x0bXMP DataXMP" + note.xmp + _XMP_TRAILER
    return data[:start] + block + data[start:]


def _quantised(frame: NDArray[np.uint8], palette: Image.Image) -> Image.Image:
    opaque = Image.fromarray(on_white(frame))
    found = opaque.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    if frame.shape[2] == 4:
        found.paste(_TRANSPARENT, mask=Image.fromarray(frame[..., 3] < 128))
    return found


def _common_palette(frames: Frames) -> Image.Image:
    """256 colours for all frames together: a palette for each would flicker."""
    pixels = frames.reshape(-1, frames.shape[3])
    chosen = pixels[np.linspace(0, len(pixels) - 1, _PALETTE_PIXELS).astype(int)]
    sample = Image.fromarray(on_white(chosen.reshape(-1, 128, frames.shape[3])))
    colours = 256 if frames.shape[3] == 3 else _TRANSPARENT
    return sample.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=1)


def _encoded(picture: Image.Image, form: str, **settings: Any) -> bytes:
    """In memory: Pillow hides why a write failed."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **settings)
    return buffer.getvalue()


def _even(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row or column where a side is odd: 4:2:0 video needs pairs."""
    odd_h, odd_w = (side % 2 for side in frame.shape[:2])
    return np.pad(frame, ((0, odd_h), (0, odd_w), (0, 0)), mode="edge")


def _run_ffmpeg(command: Sequence[str], pictures: Iterable[bytes]) -> None:
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=complaints)
        assert process.stdin is not None
        try:
            for picture in pictures:
                process.stdin.write(picture)
            process.communicate()
        except BrokenPipeError:
            process.wait()  # its complaint says why
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
