r"""What more training would bring: the learning curve of a federated run, and its continuation.

The PSNR of faces that no site has is taken as :math:`a - b\,n^{-c}` of the n images seen: a limit
that is approached by a power law. Fitted to the first half of the rounds, it says whether the
second half kept to it; fitted to all, what twice and four times the images would give *if they
were new ones*. Intervals come from resampled residuals: they hold the noise of the curve, not the
doubt about its form.

References:
    | Deep Learning Scaling is Predictable, Empirically (Hestness et al., 2017)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import markdown_table
from facemorph_core.config import load_run_config
from facemorph_core.disk.records import read_metrics
from facemorph_core.errors import ConfigError
from facemorph_core.metrics.bootstrap import Interval
from facemorph_core.pictures.chart import Line, line_chart

__all__ = [
    "LearningCurve",
    "PowerLaw",
    "chart",
    "continued",
    "fit_power_law",
    "learning_curve",
    "markdown",
]

EXPONENTS = np.linspace(0.1, 3.0, 117)
FEWEST = 6
"""Rounds for three numbers to be fitted to."""
RESAMPLES = 500
LEVEL = 0.95
AHEAD = (2, 4)

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LearningCurve:
    """One value a round, in order."""

    name: str
    images: Numbers
    """Images that the sites had learned from."""
    training: Numbers
    """Their mean loss in this round."""
    psnr: Numbers
    """dB, of faces that no site has."""
    ssim: Numbers


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """limit - span * images^-exponent."""

    limit: float
    span: float
    exponent: float

    def at(self, images: Numbers) -> Numbers:
        return np.asarray(self.limit - self.span * np.asarray(images) ** -self.exponent)


def learning_curve(run: Path) -> LearningCurve:
    """Of a run directory; rounds that were not merged or not evaluated do not count.

    Raises:
        ConfigError: it is no federated run, or holds too few rounds.
    """
    passes = load_run_config(run / "config.yaml").federation.local_epochs
    images, found = 0.0, []
    for entry in read_metrics(run):
        if not entry.get("merged"):
            continue
        images += entry["examples"] * passes
        if server := entry.get("server"):
            found.append((images, entry["training"]["loss"], server["psnr"], server["ssim"]))
    if len(found) < FEWEST:
        raise ConfigError(str(run), [f"{len(found)} evaluated rounds; {FEWEST} are needed"])
    return LearningCurve(run.name, *np.array(found).T)


def fit_power_law(images: Numbers, values: Numbers) -> PowerLaw:
    """Least squares: for each exponent it is a line, of which the best is taken."""
    away = -((images / images[0]) ** -EXPONENTS[:, None])
    centred = away - away.mean(axis=1, keepdims=True)
    spans = centred @ values / np.square(centred).sum(axis=1)
    limits = values.mean() - spans * away.mean(axis=1)
    errors = np.square(limits[:, None] + spans[:, None] * away - values).sum(axis=1)
    best = int(errors.argmin())
    exponent = float(EXPONENTS[best])
    return PowerLaw(float(limits[best]), float(spans[best] * images[0] ** exponent), exponent)


def continued(images: Numbers, values: Numbers, to: Numbers, *, seed: int = 0) -> list[Interval]:
    """What the power law of these values gives at ``to`` images."""
    law = fit_power_law(images, values)
    drawn, residuals = law.at(images), values - law.at(images)
    rng = np.random.default_rng(seed)
    again = np.array(
        [
            fit_power_law(images, drawn + rng.choice(residuals, len(residuals))).at(to)
            for _ in range(RESAMPLES)
        ]
    )
    low, high = np.quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [Interval(*map(float, limits)) for limits in zip(law.at(to), low, high, strict=True)]


def markdown(curve: LearningCurve) -> str:
    """The curve as a table, whether its second half kept to the first, and what would follow."""
    rounds = zip(curve.images, curve.training, curve.psnr, curve.ssim, strict=True)
    table = markdown_table(
        ["images seen", "loss in training", "PSNR of unseen faces, dB", "SSIM"],
        [[f"{n:,.0f}", f"{loss:.4f}", f"{dB:.2f}", f"{ssim:.3f}"] for n, loss, dB, ssim in rounds],
    )
    half = len(curve.psnr) // 2
    (expected,) = continued(curve.images[:half], curve.psnr[:half], curve.images[-1:])
    ahead = continued(curve.images, curve.psnr, curve.images[-1] * np.array(AHEAD, float))
    said = [
        f"From the first {half} rounds, {_told(expected)} dB were to be expected at the end; "
        f"there are {curve.psnr[-1]:.2f} dB.",
        *(
            f"With {times} times the images, by the power law of all rounds: {_told(value)} dB."
            for times, value in zip(AHEAD, ahead, strict=True)
        ),
    ]
    return "\n\n".join([f"## {curve.name}", table, "\n".join(said)]) + "\n"


def chart(curves: Sequence[LearningCurve]) -> str:
    """SVG of the PSNR of unseen faces over images seen."""
    lines = [
        Line(curve.name, list(zip(curve.images // 1000, curve.psnr, strict=True)))
        for curve in curves
    ]
    return line_chart("PSNR of unseen faces, dB", lines, x_label="thousand images", unit=" dB")


def _told(value: Interval) -> str:
    return f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"
