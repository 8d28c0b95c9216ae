"""How far a mean over photos can be trusted: percentile bootstrap, people drawn whole.

Photos of one person resemble each other, so people and not photos are drawn with replacement
(cluster bootstrap); an interval over single photos would be too narrow. The same seed gives the
same draws, so two models scored on the same photos are compared on the same resamples.

References:
    | An Introduction to the Bootstrap (Efron & Tibshirani, 1993), chapter 13
    | Bootstrap-based improvements for inference with clustered errors (Cameron et al., 2008)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Interval", "interval_of_difference", "interval_of_mean", "intervals_json"]

LEVEL = 0.95
RESAMPLES = 2000
DRAWS_AT_ONCE = 4_000_000  # numbers held in memory at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the range in which resampled means fall; NaN limits where no range exists."""

    mean: float
    low: float
    high: float


def interval_of_mean(
    values: ArrayLike,
    people: Sequence[str] | NDArray[Any],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of ``values`` (one per photo) with its interval over ``people`` (one per photo).

    A single person gives no idea of the spread between people: the limits are NaN then. An
    infinite value (the PSNR of a perfect copy) makes the mean infinite and the limits NaN.

    >>> interval_of_mean([1.0, 3.0], ["anna", "ben"])
    Interval(mean=2.0, low=1.0, high=3.0)
    """
    scores = np.asarray(values, np.float64)
    owners = np.asarray(people)
    if scores.ndim != 1 or len(scores) == 0 or scores.shape != owners.shape:
        raise ValueError(
            f"one value and one person per photo are needed, got {scores.shape} and {owners.shape}"
        )
    mean = float(scores.mean())
    _, person = np.unique(owners, return_inverse=True)
    photos: NDArray[np.float64] = np.bincount(person).astype(np.float64)
    if len(photos) < 2 or not np.isfinite(mean):
        return Interval(mean, float("nan"), float("nan"))
    sums: NDArray[np.float64] = np.bincount(person, weights=scores).astype(np.float64)
    means = _resampled_means(sums, photos, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def intervals_json(values: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    """Name -> {"mean", "low", "high"}; what is no number is None."""
    return {
        name: {key: x if math.isfinite(x) else None for key, x in asdict(value).items()}
        for name, value in values.items()
    }


def interval_of_difference(
    ours: ArrayLike,
    theirs: ArrayLike,
    people: Sequence[str] | NDArray[Any],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of ``ours - theirs`` on the same photos: narrower than two intervals side by side."""
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    return interval_of_mean(difference, people, level=level, resamples=resamples, seed=seed)


def _resampled_means(
    sums: NDArray[np.float64],
    photos: NDArray[np.float64],
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Mean over photos of each resample; ``sums`` and ``photos`` hold one number per person."""
    count = len(sums)
    means = []
    rows = max(1, DRAWS_AT_ONCE // count)
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, count, (min(rows, resamples - start), count))
        means.append(sums[drawn].sum(axis=1) / photos[drawn].sum(axis=1))
    return np.concatenate(means)
