"""Which rows of a shard are looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["spread"]


def spread(rows: NDArray[np.int64], count: int | None) -> NDArray[np.int64]:
    """At most ``count`` of ``rows``, evenly over all of them: the same ones every time.

    >>> spread(np.arange(10), 3).tolist()
    [0, 4, 9]
    """
    if count is None or count >= len(rows):
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
