r"""Fine detail of several faces as one: no face's hair, glasses or pores half transparent.

Averaging the fine detail of strangers would halve it where they differ: unrelated detail of equal
strength keeps 0.71 of its contrast in the middle, and two pairs of glasses show through each
other. So every place of the face decides for itself, in the mean shape:

.. math::
    t_i \propto (w_i \, e^{p_i})^{\,1 + k (1 - r)}, \qquad
    g_i = t_i \sqrt{\frac{\prod_j E_j^{v_j}}{\sum_{jl} t_j t_l C_{jl}}}

with the faces' weights :math:`w`, the local energies :math:`E_j = C_{jj}` of their details, what
these have in common :math:`C_{jl}`, and :math:`r` their correlation. Where details agree this is a
fade; where they do not, one face gives the detail. The root keeps its energy between that of the
faces, by their shares :math:`v` of the place: the weights on the face, one face's around it
(`surroundings`). A weight of one gives that face's own detail: no special case.

The preferences p let places change over at different times, so that a morph does not do all of it
in its middle: a face keeps longest the places where its detail is stronger than the other's. They
are ranks over the face, from -SPREAD / 2 to SPREAD / 2, so that no face keeps more than its part.

Convention:
    maps are (P, s, s) float32, s = MAP_SIDE, over the mean shape's frame, one for each of P faces.

References:
    | A Multiresolution Spline With Application to Image Mosaics (Burt & Adelson, 1983)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Agreement", "agreement", "blurred", "gains", "normalised", "preferences"]

Values = NDArray[np.float32]

COARSE = 2.0 / 128
"""Standard deviation of the blur that parts fine detail from coarse, in sides of the frame."""
NEIGHBOURHOOD = 3.0 / 128
"""Over which energies are taken, in sides of the frame."""
DECIDED = 6.0
"""k: how much the exponent grows where details have nothing in common."""
SPREAD = 1.2
"""Between the places of two faces that change over last and first, in log odds of the weights over
two: at alpha 0.23 and 0.77 of a morph."""
MAP_SIDE = 64
"""Pixels a side of the maps: they are smooth."""
LEAST_ENERGY = 4.0
"""Squared levels of 255 below which there is no detail to speak of."""
MOST_GAIN = 2.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the fine details of P faces have in common, in the mean shape."""

    products: Values
    """(P, P, s, s): local means of the products of two faces' details, squared levels."""

    @property
    def energies(self) -> Values:
        """(P, s, s)."""
        return np.moveaxis(np.diagonal(self.products), -1, 0)

    @property
    def correlation(self) -> Values:
        """(s, s) in 0..1, the mean over pairs: 1 where the details are one."""
        energies, count = self.energies, len(self.products)
        pairs = [(one, other) for one in range(count) for other in range(one)]
        if not pairs:
            return np.ones_like(energies[0])
        found = [self.products[i, j] / np.sqrt(energies[i] * energies[j]) for i, j in pairs]
        return np.clip(np.mean(found, axis=0), 0, 1).astype(np.float32)


def agreement(fine: Values) -> Agreement:
    """Of the fine details (P, S, S, 3) of faces in the mean shape, in levels of 255."""
    count = len(fine)
    products = np.zeros((count, count, MAP_SIDE, MAP_SIDE), np.float32)
    for one in range(count):
        for other in range(one, count):
            local = blurred((fine[one] * fine[other]).mean(axis=-1), NEIGHBOURHOOD)
            both = cv2.resize(local, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA)
            products[one, other] = products[other, one] = both
        products[one, one] += LEAST_ENERGY
    return Agreement(products)


def preferences(found: Agreement) -> Values:
    """p: how much longer than its weight says each face keeps each place."""
    stronger = np.log(found.energies)
    stronger = stronger - stronger.mean(axis=0)
    count, places = len(stronger), stronger[0].size
    ranks = stronger.reshape(count, -1).argsort(axis=1, kind="stable").argsort(axis=1)
    return (SPREAD * (ranks / (places - 1) - 0.5)).astype(np.float32).reshape(stronger.shape)


def gains(
    weights: NDArray[np.float64],
    shares: Values,
    preferred: Values,
    found: Agreement,
    decided: Values | float = DECIDED,
) -> Values:
    """g: what each face's fine detail is multiplied by before they are added; k is ``decided``."""
    with np.errstate(divide="ignore"):
        odds = np.log(weights).astype(np.float32)[:, None, None] + preferred
    chosen = normalised((1 + decided * (1 - found.correlation)) * odds)
    wanted = np.exp((shares * np.log(found.energies)).sum(axis=0))
    present = np.einsum("ixy,jxy,ijxy->xy", chosen, chosen, found.products)
    return chosen * np.minimum(np.sqrt(wanted / np.maximum(present, 1e-6)), MOST_GAIN)


def blurred(image: Values, sigma: float) -> Values:
    """By a Gaussian of ``sigma`` sides of the image."""
    found = cv2.GaussianBlur(image, (0, 0), sigma * len(image), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(found, np.float32)


def normalised(odds: Values) -> Values:
    """Of logarithms (P, s, s), what they are of, 1 in sum."""
    powers = np.exp(odds - odds.max(axis=0))
    return powers / powers.sum(axis=0)
