r"""A study in a table: means over pairs, with intervals that know that pairs share people.

Two pairs with a person in common are not independent. People are drawn with replacement, and a
pair counts as often as the product of its two people's draws.

References:
    | Nonparametric estimation of the variance of dyadic statistics (Snijders & Borgatti, 1999):
    | the vertex bootstrap
    | Biometric Systems under Morphing Attacks (Scherhag et al., 2017): MMPMR
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facemorph_core.evaluation.morphs.study import PARENTS, Study
from facemorph_core.metrics.bootstrap import LEVEL, RESAMPLES, Interval
from facemorph_core.metrics.identity import VERIFIED_BELOW

__all__ = ["MEASURES", "Measure", "Resamples", "Summary", "summarised"]

Numbers = NDArray[np.float64]
PEER = "landmark"
"""What the modes are compared with."""
KERNEL_RESAMPLES = 300


@dataclass(frozen=True, slots=True)
class Measure:
    """A row of the table."""

    name: str
    title: str
    unit: str = ""
    digits: int = 2


MEASURES = (
    Measure("ends", "ends: frames at .01 and .99 against the photos", "dB", 1),
    Measure("landmarks", "landmark error of the middle frame", "px"),
    Measure("found", "middle frames in which a face is found", "%", 1),
    Measure("sharpness", "sharpness of the middle frame, parents 1"),
    Measure("uneven", "unevenness of LPIPS steps, even alphas"),
    Measure("uneven_eased", "unevenness of LPIPS steps, perceptual easing"),
    Measure("worst", "distance to the worse-matching parent (another photo)", "", 3),
    Measure("mmpmr", f"MMPMR at {VERIFIED_BELOW}", "%", 1),
    Measure("kernel", "kernel distance of middle frames to real faces (KD-VGG16)", "", 3),
    Measure("frechet", "Fréchet distance of middle frames to real faces (FD-VGG16)", "", 1),
)


@dataclass(frozen=True, slots=True)
class Summary:
    """Intervals by mode and measure."""

    modes: dict[str, dict[str, Interval]]
    less: dict[str, dict[str, Interval]]
    """Each mode minus PEER, on the same pairs."""
    times: dict[str, dict[str, Interval]]
    """Each mode over PEER, on the same pairs: the MMPMR."""
    bound: dict[str, Interval]
    """What the midpoint of the parents' embeddings would reach: "worst" and "mmpmr"."""


def summarised(study: Study) -> Summary:
    """The table of a study; a measure that was not taken is left out."""
    draws = Resamples(study.names)
    columns: dict[str, dict[str, Numbers]] = {m: _plain(study.columns[m]) for m in study.modes}
    modes: dict[str, dict[str, Interval]] = {
        mode: {name: draws.mean(values) for name, values in own.items()}
        for mode, own in columns.items()
    }
    less: dict[str, dict[str, Interval]] = {mode: {} for mode in study.modes if mode != PEER}
    times: dict[str, dict[str, Interval]] = {mode: {} for mode in less}
    peer = columns.get(PEER, {})
    for mode, found in less.items():
        both = {name: (columns[mode][name], peer[name]) for name in peer}
        found.update({name: draws.mean(ours - theirs) for name, (ours, theirs) in both.items()})
        if "mmpmr" in both:
            times[mode]["mmpmr"] = draws.ratio(*both["mmpmr"])
    _add_distances(study, modes, less)
    bound: dict[str, Interval] = {}
    if "bound" in study.columns[PARENTS]:
        worst = study.columns[PARENTS]["bound"]
        bound = {"worst": draws.mean(worst), "mmpmr": draws.mean(_matched(worst))}
    return Summary(modes, less, times, bound)


class Resamples:
    """People drawn with replacement, and how often each pair counts then."""

    def __init__(
        self, names: Sequence[tuple[str, str]], *, resamples: int = RESAMPLES, seed: int = 0
    ) -> None:
        self.people, place = np.unique(np.array(names), return_inverse=True)
        self.pairs = place.reshape(len(names), 2)
        rng = np.random.default_rng(seed)
        count = len(self.people)
        self.times = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        self.weights = (self.times[:, self.pairs[:, 0]] * self.times[:, self.pairs[:, 1]]).astype(
            np.float64
        )

    def mean(self, values: Numbers) -> Interval:
        """Of one number for each pair; NaN are left out."""
        seen = np.isfinite(values)
        return self._interval(values, seen, seen.astype(np.float64))

    def ratio(self, ours: Numbers, theirs: Numbers) -> Interval:
        """Of two means over the same pairs."""
        seen = np.isfinite(ours) & np.isfinite(theirs)
        return self._interval(ours, seen, np.where(seen, theirs, 0))

    def _interval(self, above: Numbers, seen: NDArray[np.bool_], below: Numbers) -> Interval:
        above = np.where(seen, above, 0)
        if not below.any():
            return Interval(float("nan"), float("nan"), float("nan"))
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = (self.weights @ above) / (self.weights @ below)
        limits = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        low, high = limits.tolist() if len(self.people) > 2 else (float("nan"),) * 2
        return Interval(float(above.sum() / below.sum()), low, high)


def _plain(columns: dict[str, Numbers]) -> dict[str, Numbers]:
    """The measures that are one number for each pair."""
    found = {name: values for name, values in columns.items() if values.ndim == 1}
    found["found"] = 100.0 * np.isfinite(columns["landmarks"])
    if "worst" in found:
        found["mmpmr"] = _matched(found["worst"])
    return found


def _matched(worst: Numbers) -> Numbers:
    """In per cent; NaN where there was no other photo."""
    return np.where(np.isnan(worst), np.nan, 100.0 * (worst < VERIFIED_BELOW))


def _add_distances(
    study: Study, modes: dict[str, dict[str, Interval]], less: dict[str, dict[str, Interval]]
) -> None:
    """Of the middle frames, as a set, to real faces of the same people."""
    if "features" not in study.columns[PARENTS] or len(study.names) < 2:
        return
    from facemorph_core.metrics.distribution import frechet_distance, kernel_sums

    real = study.columns[PARENTS]["features"]
    owners = np.array(study.names).reshape(-1)
    draws = Resamples(study.names, resamples=KERNEL_RESAMPLES)
    drawn: dict[str, Numbers] = {}
    for mode in study.modes:
        features = study.columns[mode]["features"]
        flat = real.reshape(-1, real.shape[-1])
        sums = kernel_sums(features, flat, groups_other=owners)
        both = zip(draws.weights, draws.times, strict=True)
        drawn[mode] = np.array([sums.distance(*each) if each[0].any() else np.nan for each in both])
        modes[mode]["kernel"] = _around(sums.distance(), drawn[mode])
        distance = frechet_distance(features, flat)
        modes[mode]["frechet"] = Interval(distance, float("nan"), float("nan"))
    for own, found in less.items():
        if PEER in drawn:
            middle = modes[own]["kernel"].mean - modes[PEER]["kernel"].mean
            found["kernel"] = _around(middle, drawn[own] - drawn[PEER])


def _around(mean: float, drawn: Numbers) -> Interval:
    if not np.isfinite(drawn).any():
        return Interval(mean, float("nan"), float("nan"))
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Interval(mean, low, high)
