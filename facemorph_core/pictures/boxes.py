"""Boxes of ISO media files (MP4, MOV, AVIF): length, name, data, and boxes within boxes.

References:
    | ISO/IEC 14496-12, ISO base media file format, 4.2, 8.2.2, 8.3.2, 8.4.2
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

__all__ = ["Box", "box", "boxes", "without_times"]

Box = tuple[bytes, int, int]
"""Its name, and where its data begin and end."""
_WITHIN = {b"moov", b"trak", b"mdia"}
_TIMED = {b"mvhd", b"tkhd", b"mdhd"}


def box(name: bytes, data: bytes) -> bytes:
    """A box of less than 4 GiB."""
    return (8 + len(data)).to_bytes(4, "big") + name + data


def boxes(data: bytes | mmap.mmap, at: int = 0, end: int | None = None) -> Iterator[Box]:
    """Those in ``data`` from ``at`` to ``end``, one after the other.

    Examples:
        >>> list(boxes(box(b"free", b"ab") + box(b"mdat", b"")))
        [(b'free', 8, 10), (b'mdat', 18, 18)]
    """
    end = len(data) if end is None else end
    while at + 8 <= end:
        length, name, start = (
            int.from_bytes(data[at : at + 4], "big"),
            data[at + 4 : at + 8],
            at + 8,
        )
        if length == 1:  # longer than four bytes can say
            length, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        stop = at + length if length else end  # 0: up to the end
        yield name, start, stop
        at = max(stop, start)


def without_times(data: bytes) -> bytes:
    """The file with its times of creation and change set to 0, as if it did not know them."""
    changed = bytearray(data)
    _forget_times(changed, data, 0, len(data))
    return bytes(changed)


def _forget_times(changed: bytearray, data: bytes, at: int, end: int) -> None:
    for name, start, stop in boxes(data, at, end):
        if name in _WITHIN:
            _forget_times(changed, data, start, stop)
        if name in _TIMED:
            width = 8 if data[start] == 1 else 4  # by the version, which stands before them
            changed[start + 4 : start + 4 + 2 * width] = bytes(2 * width)
