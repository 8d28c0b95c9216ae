r"""How far a method's faces, taken as a set, are from photos: FD-VGG16 and KD-VGG16.

Three sets are made: reconstructions, morphs half way between two people, and faces drawn from the
method's prior. People are dealt into couples and the couples into two halves. What is made of one
half is compared with the photos of the other, both ways round, and the two distances are averaged:
no picture meets its own original, and photos alone, compared in the same way, say what a perfect
method would reach.

An interval is the distance plus and minus 1.96 standard deviations over resamples of couples. (A
percentile interval would miss the Fréchet distance, which grows when pictures repeat.) All sets of
a benchmark are resampled alike, so two of them can be compared resample by resample. The Fréchet
distance is too large for small sets; as all sets of a benchmark have one size, compare its rows
with each other and with the photos', never with another benchmark's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.method import Method
from facemorph_core.latent.interpolate import lerp
from facemorph_core.machine.progress import Progress
from facemorph_core.metrics.bootstrap import Interval
from facemorph_core.metrics.distribution import (
    gaussian_distance,
    kernel_sums,
    moments,
)

__all__ = [
    "Couples",
    "Distance",
    "Features",
    "Look",
    "SetJudge",
    "couples_of",
    "distances_between",
    "features_of",
]

RESAMPLES = 50
WIDTH = 1.96  # standard deviations on either side, 95 % of a normal distribution
FEWEST = 2  # couples in a half: pairs within one do not count
BATCH = 32  # pictures at a time

Features = NDArray[np.float64]
Look = Callable[[NDArray[np.uint8]], Features]
"""Pictures (n, S, S, 3) -> features (n, d)."""


@dataclass(frozen=True, slots=True)
class Distance:
    """Of one set from photos, and again over each resample of couples."""

    value: float
    resampled: tuple[float, ...]

    @property
    def interval(self) -> Interval:
        return _around(self.value, self.resampled)

    def less(self, other: Distance) -> Interval:
        """This distance less another of the same benchmark."""
        pairs = zip(self.resampled, other.resampled, strict=True)
        return _around(self.value - other.value, [a - b for a, b in pairs])

    def gain_over(self, other: Distance) -> Interval:
        """By what share of the other distance this one is smaller."""
        pairs = zip(self.resampled, other.resampled, strict=True)
        return _around(1 - self.value / other.value, [1 - a / b for a, b in pairs])


def _around(value: float, resampled: Sequence[float]) -> Interval:
    margin = WIDTH * float(np.nanstd(resampled))
    return Interval(value, value - margin, value + margin)


@dataclass(frozen=True, slots=True, eq=False)
class Couples:
    """Photos of people who are dealt into couples; one person may be left over."""

    places: NDArray[np.int64]
    """Which of the photos take part, ascending."""
    partner: NDArray[np.int64]
    """For each of ``places``, the place of a photo of the other person: what it is morphed with."""
    couple: NDArray[np.int64]
    """For each of ``places``, the number of its couple; even numbers are one half."""

    @property
    def halves(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of ``places`` are of either half."""
        return self.couple % 2 == 0, self.couple % 2 == 1

    @property
    def suffice(self) -> bool:
        """Whether there are enough of them for a distance."""
        return len(np.unique(self.couple)) >= 2 * FEWEST


def couples_of(people: Sequence[str], *, seed: int) -> Couples:
    """Deal the people of these photos into couples, the same ones for a seed."""
    owners = np.asarray(people)
    drawn = np.random.default_rng([seed, 1]).permutation(np.unique(owners))
    found: list[tuple[int, int, int]] = []
    for number, (one, other) in enumerate(zip(drawn[::2], drawn[1::2], strict=False)):
        first, second = np.flatnonzero(owners == one), np.flatnonzero(owners == other)
        found += [(int(a), int(second[i % len(second)]), number) for i, a in enumerate(first)]
        # one further, or the morphs of a and b would be made again as those of b and a
        found += [(int(b), int(first[(i + 1) % len(first)]), number) for i, b in enumerate(second)]
    places, partner, couple = np.array(sorted(found), np.int64).reshape(-1, 3).T
    return Couples(places, partner, couple)


def distances_between(
    made: Features, real: Features, couples: Couples, *, seed: int = 0
) -> dict[str, Distance]:
    """The distances, "fd" and "kd"; ``made`` and ``real`` are of each of ``couples.places``."""
    halves = couples.halves
    groups = [np.unique(couples.couple[half], return_inverse=True)[1] for half in halves]
    ways = [
        (made[halves[way]], real[halves[1 - way]], groups[way], groups[1 - way]) for way in (0, 1)
    ]
    sums = [kernel_sums(a, b, groups_one=g, groups_other=h) for a, b, g, h in ways]

    def both(times: Sequence[NDArray[np.int64]]) -> tuple[float, float]:
        """Each couple of either half taken so many times."""
        fd = [
            gaussian_distance(moments(b, times[1 - way][h]), moments(a, times[way][g]))
            for way, (a, b, g, h) in enumerate(ways)
        ]
        kd = [sums[way].distance(times[way], times[1 - way]) for way in (0, 1)]
        return float(np.mean(fd)), float(np.mean(kd))

    counts = [int(group.max()) + 1 for group in groups]
    rng = np.random.default_rng([seed, 2])
    resampled = [
        both([np.bincount(rng.integers(0, n, n), minlength=n) for n in counts])
        for _ in range(RESAMPLES)
    ]
    whole = both([np.ones(n, np.int64) for n in counts])
    return {
        name: Distance(value, tuple(again))
        for name, value, again in zip(
            ("fd", "kd"), whole, zip(*resampled, strict=True), strict=True
        )
    }


@dataclass(frozen=True, slots=True, eq=False)
class SetJudge:
    """The distances of any method's sets from these photos."""

    couples: Couples
    real: Features
    """Of the photos at ``couples.places``."""
    look: Look
    seed: int

    def distances(
        self,
        method: Method,
        codes: NDArray[np.float32],
        *,
        progress: Progress | None = None,
    ) -> dict[str, Distance]:
        """Such as "fd.morphs", given the codes of all photos; no samples without a prior."""
        sets = self._codes(method, codes)
        done, total = 0, sum(map(len, sets.values()))
        found: dict[str, Distance] = {}
        for name, chosen in sets.items():
            features = features_of(
                partial(_decoded, method, chosen),
                len(chosen),
                self.look,
                progress=_from(done, total, progress),
            )
            done += len(chosen)
            distances = distances_between(features, self.real, self.couples, seed=self.seed)
            found |= {f"{kind}.{name}": distance for kind, distance in distances.items()}
        return found

    def _codes(
        self, method: Method, codes: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        own, others = codes[self.couples.places], codes[self.couples.partner]
        middle = np.asarray(lerp(own, others, 0.5), np.float32)
        drawn = method.sample(len(own), seed=self.seed)
        made = {"reconstructions": own, "morphs": middle}
        return made if drawn is None else made | {"samples": drawn}


def features_of(
    pictures: Callable[[slice], NDArray[np.uint8]],
    count: int,
    look: Look,
    *,
    progress: Progress | None = None,
) -> Features:
    """Features of ``count`` pictures, of which a part is in memory at a time."""
    parts = []
    for start in range(0, count, BATCH):
        parts.append(look(pictures(slice(start, start + BATCH))))
        if progress is not None:
            progress(min(start + BATCH, count), count)
    return np.concatenate(parts)


def _decoded(method: Method, codes: NDArray[np.float32], part: slice) -> NDArray[np.uint8]:
    return method.decode(codes[part])


def _from(done: int, total: int, progress: Progress | None) -> Progress | None:
    """Counts on from the sets before."""
    return None if progress is None else lambda more, _: progress(done + more, total)
