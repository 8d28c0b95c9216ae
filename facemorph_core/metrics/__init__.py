"""Measures of how near one face image is to another; one metric each, in NumPy and OpenCV.

Convention:
    images are (..., h, w, 3) RGB; the leading dimensions are kept, so (n, h, w, 3) gives (n,)
    scores and (h, w, 3) a single one. Everything is computed in float64.
"""

from __future__ import annotations

from facemorph_core.metrics.bootstrap import Interval, interval_of_difference, interval_of_mean
from facemorph_core.metrics.hull import hull_masks
from facemorph_core.metrics.psnr import psnr, psnr_hull
from facemorph_core.metrics.ssim import ssim, ssim_hull

__all__ = [
    "Interval",
    "hull_masks",
    "interval_of_difference",
    "interval_of_mean",
    "psnr",
    "psnr_hull",
    "ssim",
    "ssim_hull",
]
