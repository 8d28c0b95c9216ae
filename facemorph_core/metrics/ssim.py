r"""Structural similarity (SSIM) with the Gaussian window of its authors.

Convention:
    11x11 window, sigma 1.5, K1 = 0.01, K2 = 0.03, weighted moments without a sample correction;
    each colour channel is scored by itself and the channels are averaged. The score of an image
    is the mean of the map over the windows that lie wholly inside it (5 pixels less on each
    side), so no invented border takes part: this is Wang's own choice and equals scikit-image's
    ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)``.
    ``peak`` is the range of the values: 255 for uint8, 2 for [-1, 1].

References:
    | Image quality assessment: from error visibility to structural similarity (Wang et al., 2004)
    | https://doi.org/10.1109/TIP.2003.819861
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ssim", "ssim_hull", "ssim_map"]

SIGMA = 1.5
RADIUS = 5
K1, K2 = 0.01, 0.03
INSIDE = (..., slice(RADIUS, -RADIUS), slice(RADIUS, -RADIUS))


def ssim(
    reference: NDArray[Any], other: NDArray[Any], *, peak: float = 255.0
) -> NDArray[np.float64]:
    """SSIM of each image over its whole frame, at most 1.

    >>> noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    >>> ssim(noise, noise)
    array([1., 1.])
    """
    return np.asarray(ssim_map(reference, other, peak=peak)[INSIDE].mean(axis=(-2, -1)))


def ssim_hull(
    reference: NDArray[Any],
    other: NDArray[Any],
    masks: NDArray[np.bool_],
    *,
    peak: float = 255.0,
) -> NDArray[np.float64]:
    """Mean of the map over each (..., h, w) mask, for whole windows only; NaN where none is."""
    similarity = ssim_map(reference, other, peak=peak)
    if masks.shape != similarity.shape:
        raise ValueError(f"masks are {masks.shape}, the images need {similarity.shape}")
    inside = masks[INSIDE]
    pixels = np.asarray(inside.sum(axis=(-2, -1), dtype=np.float64))
    total = np.where(inside, similarity[INSIDE], 0.0).sum(axis=(-2, -1))
    return np.divide(total, pixels, out=np.full(pixels.shape, np.nan), where=pixels > 0)


def ssim_map(
    reference: NDArray[Any], other: NDArray[Any], *, peak: float = 255.0
) -> NDArray[np.float64]:
    """Similarity around each pixel, (..., h, w); within 5 px of the border it saw reflections."""
    if reference.shape != other.shape or reference.ndim < 3:
        raise ValueError(
            f"two image arrays (..., h, w, channels) of one shape are needed, "
            f"got {reference.shape} and {other.shape}"
        )
    height, width, channels = reference.shape[-3:]
    if min(height, width) < 2 * RADIUS + 1:
        raise ValueError(f"SSIM needs at least 11x11 pixels, got {height}x{width}")
    flat = (-1, height, width, channels)
    pairs = zip(reference.reshape(flat), other.reshape(flat), strict=True)
    maps = [_map_of_one(x, y, peak=peak) for x, y in pairs]
    return np.array(maps, np.float64).reshape(reference.shape[:-1])


def _map_of_one(x: NDArray[Any], y: NDArray[Any], *, peak: float) -> NDArray[np.float64]:
    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x * mean_x
    variance_y = _blurred(y * y) - mean_y * mean_y
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return (above / below).mean(axis=-1)


def _gaussian() -> NDArray[np.float64]:
    offsets = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = _gaussian()
    blurred = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float64).reshape(image.shape)
