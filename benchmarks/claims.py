"""What the project's source document claims of 128-number faces, beside what was measured.

A claim about a mean holds if its interval lies on the right side of the threshold, and does not
if it lies on the other; between, it is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.store import Row
from facemorph_core.metrics.bootstrap import Interval, interval_of_mean

__all__ = ["Claim", "Curve", "claims"]

Curve = Mapping[str, Sequence[Row]]
"""Of each framing, PCA to ever more numbers."""

YES, NO, OPEN, UNKNOWN = "yes", "no", "open", "-"

NUMBERS = 128
EXCELLENT, CLAIMED = 28.0, 30.0  # dB
SSIM, LPIPS = 0.80, 0.15
MORPHS_BETTER = 0.18
"""Of the autoencoder's Fréchet distance."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the table."""

    said: str
    verdict: str
    measured: str


def claims(rows: Sequence[Row], curve: Curve, people: Sequence[str]) -> list[Claim]:
    """Every claim, with what these rows say of it."""
    by_name = {row.name: row for row in rows}
    return [
        _best(rows, people, "psnr", EXCELLENT, "PSNR above {:g} dB", " dB"),
        _best(rows, people, "psnr", CLAIMED, "PSNR above {:g} dB", " dB"),
        *(_numbers_for(dB, curve, people) for dB in (EXCELLENT, CLAIMED) if curve),
        _best(rows, people, "ssim", SSIM, "SSIM above {:.2f}"),
        _best(rows, people, "lpips", LPIPS, "LPIPS (AlexNet) below {:.2f}", lower=True),
        Claim("FID below 50", UNKNOWN, "no Inception weights here; FD-VGG16 is another scale"),
        _gain(
            f"a VAE's morphs {MORPHS_BETTER:.0%} better in Fréchet distance than an AE's",
            by_name.get("vae"),
            by_name.get("ae"),
            at_least=MORPHS_BETTER,
        ),
        _gain(
            "a VAE-GAN's morphs better than a VAE's",
            by_name.get("vaegan"),
            by_name.get("vae-perceptual"),
            at_least=0.0,
        ),
        Claim(
            "a VAE-GAN raises morph SSIM from 0.72 to 0.85",
            UNKNOWN,
            "of which pictures is not said; between neighbouring frames a plain cross-fade is best",
        ),
    ]


def verdict(interval: Interval, threshold: float, *, lower: bool = False) -> str:
    """Whether what is measured lies above the threshold, or below it.

    >>> verdict(Interval(31.0, 30.5, 31.5), 30.0), verdict(Interval(31.0, 29.5, 31.5), 30.0)
    ('yes', 'open')
    """
    low, high = interval.low - threshold, interval.high - threshold
    if lower:
        low, high = -high, -low
    return YES if low > 0 else NO if high <= 0 else OPEN


def _best(
    rows: Sequence[Row],
    people: Sequence[str],
    column: str,
    threshold: float,
    said: str,
    unit: str = "",
    *,
    lower: bool = False,
) -> Claim:
    """The claim, tried on the row of that many NUMBERS that is best in this."""
    said = f"{said.format(threshold)} from {NUMBERS} numbers"
    found = [row for row in rows if row.facts.numbers == NUMBERS and column in row.scores.columns]
    if not found:
        return Claim(said, UNKNOWN, "not measured")
    row = (min if lower else max)(found, key=lambda row: row.scores.columns[column].mean())
    best = interval_of_mean(row.scores.columns[column], people)
    mean, low, high = (f"{x:.{2 if unit else 3}f}" for x in (best.mean, best.low, best.high))
    told = f"at best {mean} [{low}, {high}]{unit} ({row.label})"
    return Claim(said, verdict(best, threshold, lower=lower), told)


def _numbers_for(threshold: float, curve: Curve, people: Sequence[str]) -> Claim:
    """With how many numbers PCA, which needs no training run, gets there."""
    parts = []
    for framing, rows in curve.items():
        means = {row.facts.numbers: row.scores.columns["psnr"].mean() for row in rows}
        enough = [numbers for numbers, mean in means.items() if mean > threshold]
        parts.append(
            f"{framing}: {min(enough):,} ({means[min(enough)]:.2f} dB)"
            if enough
            else f"{framing}: more than {max(means):,} ({means[max(means)]:.2f} dB)"
        )
    return Claim(
        f"where PSNR above {threshold:g} dB is reached", UNKNOWN, f"by PCA, {'; '.join(parts)}"
    )


def _gain(said: str, row: Row | None, other: Row | None, *, at_least: float) -> Claim:
    key = "fd.morphs"
    if row is None or other is None or key not in row.scores.distances:
        return Claim(said, UNKNOWN, "not measured")
    ours, theirs = row.scores.distances[key], other.scores.distances[key]
    gain = ours.gain_over(theirs)
    told = (
        f"FD-VGG16 of morphs {ours.value:.2f} against {theirs.value:.2f}: "
        f"better by {gain.mean:.1%} [{gain.low:.1%}, {gain.high:.1%}]"
    )
    return Claim(said, verdict(gain, at_least), told)
