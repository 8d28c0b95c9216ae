"""Frames -> files that play, and single pictures, by suffix, each with its note.

Frames come one at a time, (h, w, 3) uint8 RGB or (h, w, 4) RGBA and all of one shape; where a
format knows no transparency they lie on white. ``seconds`` says how long each frame stays. ``note``
is what the file says of itself, None for a file that says nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin, features

from facemorph_core.alignment.colour import srgb_profile
from facemorph_core.alignment.photo import on_white
from facemorph_core.errors import OutputError
from facemorph_core.pictures.apng import write_apng
from facemorph_core.pictures.boxes import without_times
from facemorph_core.pictures.ffmpeg import find_ffmpeg
from facemorph_core.pictures.gif import write_gif
from facemorph_core.pictures.pace import ticks
from facemorph_core.pictures.png import write_png
from facemorph_core.pictures.provenance import Note
from facemorph_core.pictures.sides import Frame
from facemorph_core.pictures.video import VIDEO_ENCODERS, write_mov, write_mp4, write_webm

__all__ = ["ENCODERS", "LARGEST", "check_encoder", "check_sides", "write_picture"]

Encoder = Callable[[Iterable[Frame], Path, Sequence[float], Note | None], None]

LARGEST = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500, ".gif": 65_535, ".avif": 65_536}
"""Pixels a side, by format."""
_IMAGE_DESCRIPTION, _XMP = 0x010E, 0x02BC  # tags of Exif and TIFF


class _Reel(Image.Image):
    """Pictures that come one at a time, as Pillow reads a file that holds several."""

    def __init__(self, frames: Iterable[Frame], count: int) -> None:
        super().__init__()
        self._arriving = iter(frames)
        self.n_frames, self.is_animated, self._at = count, count > 1, -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        """To the next one; none comes twice, so the way back is none."""
        if frame >= self.n_frames:
            raise EOFError
        if frame > self._at:
            vars(self).update(vars(Image.fromarray(next(self._arriving))))
            self._at = frame

    def tell(self) -> int:
        return self._at


def write_webp(
    frames: Iterable[Frame], path: Path, seconds: Sequence[float], note: Note | None
) -> None:
    """Colours as they are, or nearly: quality 90."""
    settings = {"duration": ticks(seconds, 1000), "loop": 0, "quality": 90}
    path.write_bytes(_film(frames, "WEBP", seconds, **settings, **_said(note)))


def write_avif(
    frames: Iterable[Frame], path: Path, seconds: Sequence[float], note: Note | None
) -> None:
    """Half of a WebP's bytes, and slow: quality 80, full resolution of colours."""
    settings = {"duration": ticks(seconds, 1000), "quality": 80, "subsampling": "4:4:4"}
    data = _film(frames, "AVIF", seconds, **settings, **_said(note))
    path.write_bytes(without_times(data))  # else no two are the same


ENCODERS: dict[str, Encoder] = {
    ".gif": write_gif,
    ".mp4": write_mp4,
    ".webp": write_webp,
    ".mov": write_mov,
    ".webm": write_webm,
    ".avif": write_avif,
    ".apng": write_apng,
}
"""By suffix: files that play."""


def check_encoder(suffix: str) -> None:
    """Refuse a format before any work for what is not there to write it.

    Raises:
        OutputError: no ffmpeg that can, or a Pillow without AVIF.
    """
    if suffix in VIDEO_ENCODERS:
        find_ffmpeg(VIDEO_ENCODERS[suffix])
    if suffix == ".avif" and not features.check("avif"):
        raise OutputError(
            "this Pillow cannot write AVIF",
            hint='pip install "pillow>=11.3", or write a .webp',
        )


def check_sides(suffix: str, height: int, width: int) -> None:
    """Refuse pictures that the format cannot hold."""
    largest = LARGEST.get(suffix, max(height, width))
    if max(height, width) > largest:
        raise OutputError(
            f"a picture of {width}x{height} pixels is too large for {suffix}, "
            f"which ends at {largest}",
            hint="write a .png, or choose a smaller --size",
        )


def write_picture(picture: Image.Image, path: Path, note: Note | None) -> None:
    """One picture by its suffix: PNG and TIFF to the last bit, JPEG, WebP and AVIF at quality 95.

    Raises:
        OutputError: the picture is larger than the format holds, or there is nothing to write it.
    """
    suffix = path.suffix.lower()
    check_encoder(suffix)
    check_sides(suffix, picture.height, picture.width)
    match suffix:
        case ".png":
            write_png(picture, path, note)
        case ".tif" | ".tiff":
            path.write_bytes(_encoded(picture, "TIFF", compression="tiff_lzw", **_tags(note)))
        case ".webp":
            path.write_bytes(_encoded(picture, "WEBP", quality=95, **_said(note)))
        case ".avif":
            whole = {"quality": 95, "subsampling": "4:4:4"}
            path.write_bytes(_encoded(picture, "AVIF", **whole, **_said(note)))
        case _:
            opaque = Image.fromarray(on_white(np.asarray(picture)))
            path.write_bytes(_encoded(opaque, "JPEG", quality=95, subsampling=0, **_said(note)))


def _said(note: Note | None) -> dict[str, Any]:
    """Pillow's settings for the note and for the colours, sRGB, in the formats that have Exif."""
    colours = {"icc_profile": srgb_profile()}
    if note is None:
        return colours
    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = note.sentence
    return {**colours, "exif": exif, "xmp": note.xmp}


def _tags(note: Note | None) -> dict[str, Any]:
    """The same for TIFF."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if note is not None:
        tags[_IMAGE_DESCRIPTION] = note.sentence
        tags[_XMP] = note.xmp
    return {"icc_profile": srgb_profile(), "tiffinfo": tags}


def _film(frames: Iterable[Frame], form: str, seconds: Sequence[float], **settings: Any) -> bytes:
    count = len(seconds)
    return _encoded(_Reel(_exactly(count, frames), count), form, save_all=True, **settings)


def _exactly(count: int, frames: Iterable[Frame]) -> Iterator[Frame]:
    """All of them, where Pillow would stop at the last that it knows of."""
    for _, frame in zip(range(count), frames, strict=True):
        yield frame


def _encoded(picture: Image.Image, form: str, **settings: Any) -> bytes:
    """In memory: Pillow hides why a write failed."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **settings)
    return buffer.getvalue()
