r"""From released facts to (epsilon, delta), through Rényi differential privacy.

Convention:
    all events have one unit, add/remove is the relation, Poisson sampling the assumption; the bound
    is composed over every event that is passed, so pass a site's whole ledger, never a round.

References:
    | Rényi Differential Privacy of the Sampled Gaussian Mechanism (Mironov et al., 2019)
    | Hypothesis Testing Interpretations and Rényi DP (Balle et al., 2020): RDP to (eps, delta)
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from facemorph_core.learning.privacy.events import Event, PlainRelease

ORDERS = [1.1, 1.25, 1.5, 1.75, 2.25, 2.5, 2.75, 3.25, 3.5, 4.5, 5.5]
ORDERS += [float(k) for k in range(2, 65)] + [80.0, 96.0, 128.0, 192.0, 256.0, 512.0, 1024.0]
"""Fine where many steps with little noise are decided, wide for few steps with much noise; orders
between whole numbers take most of the time."""
ROUNDING = 1e-9
"""More than what rounding takes from the cost of a step: with much noise it would be below 0."""


def epsilon(events: Iterable[Event], delta: float) -> float:
    """The epsilon of all ``events`` together at ``delta``.

    0 if nothing was released, infinite if anything was released without noise.

    >>> from facemorph_core.learning.privacy import GaussianSteps
    >>> round(epsilon([GaussianSteps(1.1, 256 / 60000, 60 * 235)], 1e-5), 2)
    2.6
    """
    steps: Counter[tuple[float, float]] = Counter()
    for event in events:
        if isinstance(event, PlainRelease):
            return math.inf
        steps[event.noise_multiplier, event.sample_rate] += event.steps
    total = np.zeros(len(ORDERS))
    for (noise, rate), count in steps.items():
        total += count * _rdp_of_a_step(noise, rate) if count else 0.0
    return _to_epsilon(total, delta) if total.any() else 0.0


@cache
def _rdp_of_a_step(noise: float, rate: float) -> NDArray[np.float64]:
    from opacus.accountants.analysis import rdp as renyi  # seconds: only who needs it waits

    with np.errstate(all="ignore"):  # orders that overflow become inf and are passed over
        values = renyi.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=ORDERS)
    exact = np.nan_to_num(np.asarray(values, np.float64), nan=np.inf, posinf=np.inf)
    return np.maximum(exact, 0.0) + ROUNDING


def _to_epsilon(total: NDArray[np.float64], delta: float) -> float:
    from opacus.accountants.analysis import rdp as renyi

    usable = np.isfinite(total)
    if not usable.any():
        return float("inf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an extreme order is looser, still valid
        found, _ = renyi.get_privacy_spent(
            orders=np.array(ORDERS)[usable].tolist(), rdp=total[usable].tolist(), delta=delta
        )
    return max(0.0, float(found))
