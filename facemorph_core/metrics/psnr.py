r"""Peak signal-to-noise ratio: ``10 log10(peak^2 / mean squared error)``, decibels.

Convention:
    images are (..., h, w, 3); the squared error is averaged over pixels and channels of one
    image, then the logarithm is taken: a mean over images is a mean of decibels. Identical
    images score infinity. ``peak`` is the range of the values: 255 for uint8, 2 for [-1, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["psnr", "psnr_hull"]


def psnr(
    reference: NDArray[Any], other: NDArray[Any], *, peak: float = 255.0
) -> NDArray[np.float64]:
    """PSNR of each image over its whole frame.

    >>> grey = np.full((2, 8, 8, 3), 100, np.uint8)
    >>> psnr(grey, grey + np.uint8(1)).round(2)
    array([48.13, 48.13])
    """
    error = squared_error(reference, other).mean(axis=(-2, -1))
    return decibels(np.asarray(error), peak=peak)


def psnr_hull(
    reference: NDArray[Any],
    other: NDArray[Any],
    masks: NDArray[np.bool_],
    *,
    peak: float = 255.0,
) -> NDArray[np.float64]:
    """PSNR of each image over the pixels of its (..., h, w) mask; NaN where a mask is empty."""
    error = squared_error(reference, other)
    if masks.shape != error.shape:
        raise ValueError(f"masks are {masks.shape}, the images need {error.shape}")
    pixels = np.asarray(masks.sum(axis=(-2, -1), dtype=np.float64))
    total = np.where(masks, error, 0.0).sum(axis=(-2, -1))
    mean = np.divide(total, pixels, out=np.full(pixels.shape, np.nan), where=pixels > 0)
    return decibels(mean, peak=peak)


def squared_error(reference: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Squared difference of each pixel, (..., h, w), averaged over its channels."""
    if reference.shape != other.shape or reference.ndim < 3:
        raise ValueError(
            f"two image arrays (..., h, w, channels) of one shape are needed, "
            f"got {reference.shape} and {other.shape}"
        )
    difference = np.subtract(reference, other, dtype=np.float64)
    return np.square(difference, out=difference).mean(axis=-1)


def decibels(error: NDArray[np.float64], *, peak: float) -> NDArray[np.float64]:
    """Mean squared errors as PSNR; 0 becomes infinity."""
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(peak**2 / error))
