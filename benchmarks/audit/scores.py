"""How well an attack tells photos that took part from photos that did not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Scores = NDArray[np.float64]
CANDIDATES = np.linspace(0, 1, 41)
"""Thresholds that are tried, as shares of all scores below them."""


@dataclass(frozen=True, slots=True)
class Told:
    """An attack's success, with 95 % bootstrap intervals over the photos."""

    auc: float
    auc_between: tuple[float, float]
    at_one_percent: float
    """Share of the members that are named where 1 % of the others are too."""
    members: int
    others: int


def told(members: Scores, others: Scores, *, seed: int = 0, resamples: int = 1000) -> Told:
    """How well higher scores mean membership."""
    rng = np.random.default_rng(seed)
    drawn = [
        auc(rng.choice(members, len(members)), rng.choice(others, len(others)))
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    named = float((members > np.quantile(others, 0.99)).mean())
    between = (float(low), float(high))
    return Told(auc(members, others), between, named, len(members), len(others))


def auc(members: Scores, others: Scores) -> float:
    """The chance that a member scores higher than another; equal scores count a half."""
    found = stats.mannwhitneyu(members, others).statistic
    return float(found / (len(members) * len(others)))


def least_epsilon(members: Scores, others: Scores, *, delta: float, sure: float = 0.95) -> float:
    """An epsilon that the mechanism certainly has: it cannot be private with less.

    The threshold is chosen on one half of the trials and judged on the other, by exact binomial
    bounds (Clopper and Pearson), as in Nasr et al., "Adversary Instantiation" (2021).
    """
    candidates = np.quantile(np.concatenate([members[::2], others[::2]]), CANDIDATES)
    bounds = [_proved(members[::2], others[::2], c, delta=delta, sure=sure) for c in candidates]
    best = float(candidates[int(np.argmax(bounds))])
    return _proved(members[1::2], others[1::2], best, delta=delta, sure=sure)


def _proved(
    members: Scores, others: Scores, threshold: float, *, delta: float, sure: float
) -> float:
    """What guessing by one threshold proves, in whichever direction it proves more."""
    right, wrong = members > threshold, others > threshold
    confidence = 1 - (1 - sure) / 4  # four bounds must hold together
    return max(
        0.0,
        _ratio(_below(right, confidence) - delta, _above(wrong, confidence)),
        _ratio(_below(~wrong, confidence) - delta, _above(~right, confidence)),
    )


def _below(hits: NDArray[np.bool_], confidence: float) -> float:
    """A lower bound of the rate of ``hits``."""
    k, n = int(hits.sum()), len(hits)
    return float(stats.beta.ppf(1 - confidence, k, n - k + 1)) if k else 0.0


def _above(hits: NDArray[np.bool_], confidence: float) -> float:
    """An upper bound of the rate of ``hits``."""
    k, n = int(hits.sum()), len(hits)
    return float(stats.beta.ppf(confidence, k + 1, n - k)) if k < n else 1.0


def _ratio(hits: float, misses: float) -> float:
    return math.log(hits / misses) if hits > 0 and misses > 0 else 0.0
