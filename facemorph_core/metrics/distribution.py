r"""How far one set of pictures is from another: Fréchet and kernel distance of their features.

Convention:
    feature sets are (n, d) float64, of whatever network. Lower is nearer; both are symmetric.

The Fréchet distance is that of two Gaussians with the sets' means and covariances,

.. math:: |m_1 - m_2|^2 + \operatorname{tr}(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2}),

too large for small sets, and the more so the smaller they are. The kernel distance is the squared
maximum mean discrepancy with the kernel :math:`(x \cdot y / d + 1)^3`, estimated without bias, so
it may be a little below 0. Pictures that belong together (photos of one person) form a *group*:
pairs within a group do not count, for their likeness says nothing of the set.

References:
    | GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017): FID
    | Demystifying MMD GANs (Binkowski et al., 2018): KID
    | The Role of ImageNet Classes in Fréchet Inception Distance (Kynkäänniemi et al., 2023)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "KernelSums",
    "Moments",
    "frechet_distance",
    "gaussian_distance",
    "kernel_distance",
    "kernel_sums",
    "moments",
]

Features = NDArray[np.float64]

KERNEL_ROWS = 1024  # rows of a kernel matrix in memory at a time


# --- Fréchet distance ------------------------------------------------------------------------


class Moments(NamedTuple):
    """Mean (d,) and covariance (d, d) of a feature set."""

    mean: Features
    covariance: Features


def moments(features: Features, counts: NDArray[Any] | None = None) -> Moments:
    """Of (n, d) features, each taken ``counts`` times; the covariance is divided by n - 1."""
    times = np.ones(len(features)) if counts is None else np.asarray(counts, np.float64)
    if len(features) < 2 or times.sum() < 2:
        raise ValueError(f"two pictures at least have a covariance, got {len(features)}")
    mean = times @ features / times.sum()
    away = (features - mean) * np.sqrt(times)[:, None]
    return Moments(mean, away.T @ away / (times.sum() - 1))


def gaussian_distance(one: Moments, other: Moments) -> float:
    """Squared Fréchet distance of two Gaussians, at least 0."""
    values, vectors = np.linalg.eigh(one.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    between = np.linalg.eigvalsh(root @ other.covariance @ root)
    shared = np.sqrt(between.clip(min=0)).sum()
    apart = np.square(one.mean - other.mean).sum()
    spread = np.trace(one.covariance) + np.trace(other.covariance)
    return max(float(apart + spread - 2 * shared), 0.0)


def frechet_distance(one: Features, other: Features) -> float:
    """Of two feature sets (n, d) and (m, d).

    >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> round(frechet_distance(square, square + [3.0, 4.0]), 6)
    25.0
    """
    return gaussian_distance(moments(one), moments(other))


# --- kernel distance -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class KernelSums:
    """The kernel summed over the pictures of each two groups: all that a resample needs."""

    within_one: NDArray[np.float64]
    """(g, g), of two groups of the one set."""
    within_other: NDArray[np.float64]
    """(h, h), of two groups of the other set."""
    between: NDArray[np.float64]
    """(g, h), of a group of the one set and a group of the other."""
    sizes_one: NDArray[np.float64]
    """(g,) pictures in each group."""
    sizes_other: NDArray[np.float64]
    """(h,) pictures in each group."""

    def distance(
        self, times_one: NDArray[Any] | None = None, times_other: NDArray[Any] | None = None
    ) -> float:
        """The unbiased estimate with each group drawn so many times; once, if not given."""
        one = np.ones(len(self.sizes_one)) if times_one is None else np.asarray(times_one)
        other = np.ones(len(self.sizes_other)) if times_other is None else np.asarray(times_other)
        pictures_one, pictures_other = one * self.sizes_one, other * self.sizes_other
        between = one @ self.between @ other / (pictures_one.sum() * pictures_other.sum())
        return float(
            _across_groups(self.within_one, one, pictures_one)
            + _across_groups(self.within_other, other, pictures_other)
            - 2 * between
        )


def kernel_sums(
    one: Features,
    other: Features,
    *,
    groups_one: NDArray[Any] | None = None,
    groups_other: NDArray[Any] | None = None,
) -> KernelSums:
    """What `KernelSums` says; without groups each picture is one. Groups come in sorted order."""
    members_one, members_other = _members(one, groups_one), _members(other, groups_other)
    return KernelSums(
        _summed(one, one, members_one, members_one),
        _summed(other, other, members_other, members_other),
        _summed(one, other, members_one, members_other),
        members_one.sum(axis=1),
        members_other.sum(axis=1),
    )


def kernel_distance(
    one: Features,
    other: Features,
    *,
    groups_one: NDArray[Any] | None = None,
    groups_other: NDArray[Any] | None = None,
) -> float:
    """Unbiased squared MMD of two feature sets (n, d) and (m, d); groups are (n,) and (m,)."""
    return kernel_sums(one, other, groups_one=groups_one, groups_other=groups_other).distance()


def _across_groups(
    sums: NDArray[np.float64], times: NDArray[Any], pictures: NDArray[np.float64]
) -> float:
    """Mean of the kernel over ordered pairs of pictures of two different groups."""
    total = times @ sums @ times - (times**2) @ np.diagonal(sums)
    pairs = pictures.sum() ** 2 - (pictures**2).sum()
    return float(total / pairs) if pairs > 0 else float("nan")


def _members(features: Features, groups: NDArray[Any] | None) -> NDArray[np.float64]:
    """(g, n) of 0 and 1: which picture is in which group."""
    if groups is None:
        return np.eye(len(features))
    if len(groups) != len(features):
        raise ValueError(f"{len(groups)} groups for {len(features)} pictures")
    names, place = np.unique(groups, return_inverse=True)
    return (np.arange(len(names))[:, None] == place).astype(np.float64)


def _summed(
    one: Features,
    other: Features,
    members_one: NDArray[np.float64],
    members_other: NDArray[np.float64],
) -> NDArray[np.float64]:
    total = np.zeros((len(members_one), len(members_other)))
    for start in range(0, len(one), KERNEL_ROWS):
        part = slice(start, start + KERNEL_ROWS)
        kernel = (one[part] @ other.T / one.shape[1] + 1) ** 3
        total += members_one[:, part] @ kernel @ members_other.T
    return total
