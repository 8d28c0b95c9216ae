r"""The numbers in the bytes of an npy file that a stranger sent: compared, not parsed.

    | 6 bytes   \x93NUMPY
    | 2 bytes   version 1.0
    | 2 bytes   length of the header, little-endian
    | header    kind of number, order and shape as text, padded with spaces to a line
    | the rest  the numbers

For one kind of number and one shape there is one header but for its padding, so that nothing of it
needs to be parsed: no size is believed, no text evaluated, and memory is taken only for bytes that
are there.

References:
    | https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array_or_none"]

_LEAD = struct.Struct("<6sBBH")
"""How a file of version 1.0 begins: magic, version, length of the header's text."""


def array_or_none(
    data: bytes | memoryview, shape: tuple[int, ...], kind: np.dtype[Any]
) -> NDArray[Any] | None:
    """The array of this shape and kind of number that ``data`` holds, read-only, not copied.

    None if ``data`` is anything else than the npy file of such an array.
    """
    start = len(data) - math.prod(shape) * kind.itemsize
    written = f"{{'descr': {kind.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    text = written.encode() + b" " * (start - _LEAD.size - len(written) - 1) + b"\n"
    if start < 0 or data[:start] != _LEAD.pack(b"\x93NUMPY", 1, 0, len(text) & 0xFFFF) + text:
        return None
    return np.frombuffer(data, kind, offset=start).reshape(shape)
