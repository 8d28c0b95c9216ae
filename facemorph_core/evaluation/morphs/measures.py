r"""What is measured on the frames of one morph. Pure functions of pictures and points.

Convention: pictures are (S, S, 3) uint8, S = 128 unless said otherwise; points are (68, 2) pixels.

    ends          PSNR of the frames at alpha .01 and .99 against the photos, dB: exact ends without
                  a jump after them
    landmarks     distance between the landmarks found on a frame and the interpolated ones, pixels:
                  features that move where they should
    sharpness     variance of the Laplacian inside the hull over the geometric mean of the
                  parents': 1 is as sharp as they are, and more is noise
    unevenness    coefficient of variation of the steps from frame to frame
    identity      distance to a *different* photo of each parent; the worse of both counts

References:
    | Diatom autofocusing in brightfield microscopy (Pech-Pacheco et al., 2000): variance of the
    | Laplacian
    | Biometric Systems under Morphing Attacks (Scherhag et al., 2017): MMPMR
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.metrics.hull import hull_mask

__all__ = ["landmark_error", "laplacian_variance", "relative_sharpness", "unevenness"]

Picture = NDArray[np.uint8]
Points = NDArray[Any]


def relative_sharpness(
    frame: Picture, points: Points, parents: tuple[Picture, Picture], theirs: tuple[Points, Points]
) -> float:
    """Of ``frame`` with its features at ``points``, against its parents with theirs."""
    own = [laplacian_variance(*each) for each in zip(parents, theirs, strict=True)]
    return laplacian_variance(frame, points) / float(np.sqrt(own[0] * own[1]))


def laplacian_variance(picture: Picture, points: Points) -> float:
    """Inside the hull of ``points``, in squared levels of 255."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edges = np.asarray(cv2.Laplacian(grey, cv2.CV_32F))
    return float(edges[hull_mask(points, picture.shape[:2])].var())


def landmark_error(found: Points, expected: Points) -> float:
    """Mean distance of the points, pixels."""
    return float(np.linalg.norm(np.asarray(found) - expected, axis=1).mean())


def unevenness(steps: NDArray[np.float64]) -> float:
    """Standard deviation over mean; 0 for equal steps, and where nothing moves."""
    mean = float(np.mean(steps))
    return float(np.std(steps)) / mean if mean > 0 else 0.0
