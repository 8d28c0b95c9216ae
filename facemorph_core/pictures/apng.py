"""PNG that plays: every frame to the last bit, in all colours and with transparency.

Pillow compresses each frame, and here its data get the chunks of a film around them, so that no
more than one frame is held.

References:
    | Portable Network Graphics (PNG) Specification, Third Edition, 11.3.6 (W3C)
    | https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from facemorph_core.pictures.pace import ticks
from facemorph_core.pictures.png import png_chunks_about
from facemorph_core.pictures.provenance import Note
from facemorph_core.pictures.sides import Frame, changed

__all__ = ["write_apng"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FOR_EVER = 0  # how often it plays
_STAYS, _REPLACES = 0, 0  # what becomes of a frame, and of what lies below it


def write_apng(
    frames: Iterable[Frame], path: Path, seconds: Sequence[float], note: Note | None
) -> None:
    """Of each frame the part that changed."""
    before: Frame | None = None
    numbers = itertools.count()
    with path.open("wb") as file:
        file.write(SIGNATURE)
        for frame, stay in zip(frames, ticks(seconds, 1000), strict=True):
            box = left, top, right, bottom = changed(before, frame)
            picture = Image.fromarray(frame).crop(box)
            size = right - left, bottom - top
            timing = stay, 1000, _STAYS, _REPLACES
            control = struct.pack(">5I2H2B", next(numbers), *size, left, top, *timing)
            parts = list(_parts(picture, note))
            if before is None:
                (head, about), *others = parts
                file.write(_chunk(head, about))
                file.write(_chunk(b"acTL", struct.pack(">2I", len(seconds), _FOR_EVER)))
                file.writelines(_chunk(*each) for each in others if each[0] not in _DATA)
            file.write(_chunk(b"fcTL", control))
            for data in (data for name, data in parts if name == b"IDAT"):
                number = b"" if before is None else struct.pack(">I", next(numbers))
                file.write(_chunk(b"fdAT" if number else b"IDAT", number + data))
            before = frame
        file.write(_chunk(b"IEND", b""))


_DATA = (b"IDAT", b"IEND")


def _parts(picture: Image.Image, note: Note | None) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of the picture as a PNG of its own: name and data."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=png_chunks_about(note))
    data, at = buffer.getvalue(), len(SIGNATURE)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
