"""GIF, which has 256 colours for all frames together, and a size that sites take.

Colours and size are known only when the last frame has been seen, so frames are kept meanwhile, as
they are, at no more than the side that a GIF may have: in memory while they are few, else in a file
without a name in the folder of the output, where there is room. Making a frame once more would take
a hundred times as long as reading it.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import getdata, getheader

from facemorph_core.pictures.pace import ticks
from facemorph_core.pictures.palette import TRANSPARENT, Colours, quantised
from facemorph_core.pictures.provenance import Note
from facemorph_core.pictures.sides import Frame, changed, fitted

__all__ = ["write_gif"]

GIF_MEGABYTES = 10.0
"""What a GIF grows to before its pictures shrink: what most sites take."""
GIF_SIDE = 1024
"""Pixels of the longer side that a GIF starts from."""
IN_MEMORY = 32 * 2**20
"""Bytes of frames that are kept there."""
_LEAST_SIDE = 32
_XMP_TRAILER = bytes([1, *range(255, -1, -1), 0])  # XMP specification part 3, 1.1.2: to the end

log = logging.getLogger(__name__)


def write_gif(
    frames: Iterable[Frame], path: Path, seconds: Sequence[float], note: Note | None
) -> None:
    """At most GIF_MEGABYTES: pictures that take more are made smaller, and it is said."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(path.parent)) as file:
        asked = 0
        kept, colours = _Kept(file), Colours(len(seconds))
        for frame in frames:
            asked = max(frame.shape[:2])
            small = fitted(frame, min(asked, GIF_SIDE))
            kept.add(small)
            colours.look(small)
        side, data = _small_enough(kept, colours.palette(), seconds, note)
    if side < asked:
        log.warning(
            "a GIF ends at %d pixels and %g MB: this one has %d pixels a side instead of %d; "
            "other formats have no such limit",
            GIF_SIDE,
            GIF_MEGABYTES,
            side,
            asked,
        )
    path.write_bytes(data)


class _Kept:
    """Frames of one shape in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._count = file, 0
        self.shape: tuple[int, ...] = ()

    def add(self, frame: Frame) -> None:
        self._file.write(np.ascontiguousarray(frame).data)
        self.shape, self._count = frame.shape, self._count + 1

    def __iter__(self) -> Iterator[Frame]:
        self._file.seek(0)
        for _ in range(self._count):
            data = self._file.read(int(np.prod(self.shape)))
            yield np.frombuffer(data, np.uint8).reshape(self.shape)


def _small_enough(
    kept: _Kept, palette: Image.Image, seconds: Sequence[float], note: Note | None
) -> tuple[int, bytes]:
    side = max(kept.shape[:2])
    while True:
        limit = GIF_MEGABYTES * 1e6 if side > _LEAST_SIDE else np.inf
        data, share = b"", 0.0
        for number, part in enumerate(
            _parts((fitted(f, side) for f in kept), palette, seconds, note)
        ):
            data += part
            share = number / len(seconds)  # the first part is the header
            if len(data) > limit:
                break
        else:
            return side, data
        over = len(data) / limit / max(share, 1 / len(seconds))
        side = max(_LEAST_SIDE, int(side * 0.97 / over**0.5))


def _parts(
    frames: Iterable[Frame], palette: Image.Image, seconds: Sequence[float], note: Note | None
) -> Iterator[bytes]:
    """The file in parts: its header, each frame, its end."""
    # GIF counts in hundredths of a second, and browsers slow down what is shorter than two
    before: NDArray[np.uint8] | None = None
    for frame, stay in zip(frames, ticks(seconds, 100, least=2), strict=True):
        picture = quantised(frame, palette)
        numbers = np.asarray(picture)
        if before is None:
            yield _header(picture, note)
        settings: dict[str, Any] = {"duration": 10 * stay}
        if frame.shape[2] == 4:
            settings |= {"transparency": TRANSPARENT, "disposal": 2}
            box = (0, 0, *picture.size)
        else:
            box = changed(before, numbers)
        yield b"".join(getdata(picture.crop(box), box[:2], **settings))
        before = numbers
    yield b";"


def _header(first: Image.Image, note: Note | None) -> bytes:
    said = {} if note is None else {"comment": note.sentence.encode()}
    parts, _ = getheader(first.copy(), info={"loop": 0, "duration": 10, **said})
    data = b"".join(parts)
    if note is None:
        return data
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1)  # past the palette
    block = b"\x21\xff\x0bXMP DataXMP" + note.xmp + _XMP_TRAILER
    return data[:start] + block + data[start:]
