r"""An array out of the bytes of an npy file that a stranger sent: compared, not parsed.

    | 6 bytes   \x93NUMPY
    | 2 bytes   version 1.0
    | 2 bytes   length of the header, little-endian
    | header    kind of number, order and shape as text, padded with spaces to a line
    | the rest  the numbers

For one kind of number and one shape there is one header, so that nothing of it needs to be parsed:
no size is believed, no text evaluated, and memory is taken only for bytes that are there.

References:
    | https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.errors import FederationError

__all__ = ["array_in"]

_MAGIC = b"\x93NUMPY\x01\x00"


def array_in(data: bytes, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    """The array of this shape and kind of number that ``data`` holds, read-only, not copied.

    Raises:
        FederationError: ``data`` is anything else than the npy file of such an array.
    """
    start = len(_MAGIC) + 2
    header = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    expected = f"{{'descr': '{kind.str}', 'fortran_order': False, 'shape': {shape!r}, }}"
    fits = (
        data[: len(_MAGIC)] == _MAGIC
        and data[start:header].rstrip(b" \n") == expected.encode()
        and len(data) - header == math.prod(shape) * kind.itemsize
    )
    if not fits:
        raise FederationError(f"its bytes are not those of {kind} numbers of shape {shape}")
    return np.frombuffer(data, kind, offset=header).reshape(shape)
