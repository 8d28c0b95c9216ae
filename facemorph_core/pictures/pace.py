"""How long each frame is shown, in the units that a format counts in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["seconds_of", "ticks"]


def seconds_of(count: int, *, fps: float, hold: float, held: Sequence[int]) -> list[float]:
    """Of ``count`` frames; those of the numbers ``held`` stay ``hold`` seconds longer."""
    seconds = np.full(count, 1 / fps)
    seconds[np.unique(np.arange(count)[list(held)])] += hold
    return [float(each) for each in seconds]


def ticks(seconds: Sequence[float], a_second: int, *, least: int = 1) -> list[int]:
    """Each in whole ticks, ``a_second`` of them in a second, and at least ``least``.

    What one loses by rounding the next makes good, so that the whole lasts as long as it should.

    Examples:
        >>> ticks([1 / 15] * 3, 100)
        [7, 6, 7]
    """
    ends = np.rint(np.cumsum(seconds) * a_second)
    return [max(least, int(each)) for each in np.diff(ends, prepend=0)]
