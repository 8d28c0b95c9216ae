"""An array out of the bytes of an npy file that a site sent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.disk.npy import array_or_none
from facemorph_core.errors import FederationError

__all__ = ["array_in"]


def array_in(data: bytes, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    """The array of this shape and kind of number that ``data`` holds, read-only, not copied.

    Raises:
        FederationError: ``data`` is anything else than the npy file of such an array.
    """
    found = array_or_none(data, shape, kind)
    if found is None:
        raise FederationError(f"its bytes are not those of {kind} numbers of shape {shape}")
    return found
