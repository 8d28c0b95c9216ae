"""How a photo goes on beyond its border: as the blur of what it ends with, the wider the farther.

Many keep a portrait cropped to the face, and the frame is larger. A mirror would show a second pair
of eyes there. At a distance of d pixels the photo's edge is shown, shrunk by some d / 2.

Convention:
    x, y are (h, w) float32 places in a picture, in its pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.beyond import all_inside, distance_beyond, places
from facemorph_core.alignment.geometry import Affine, invert_affine
from facemorph_core.alignment.halvings import Halvings

__all__ = ["blurred_beyond", "continued"]

Values = NDArray[np.float32]

GROWTH = 0.5
"""Pixels of blur for each pixel of distance."""


def continued(found: Values, x: Values, y: Values, far: Values, picture: Halvings) -> Values:
    """``found`` (h, w, C), a picture at (x, y), blurred where these lie ``far`` beyond it."""
    blur = np.log2(1 + GROWTH * far)
    for halvings in range(1, math.ceil(float(blur.max(initial=0.0))) + 1):
        there, shrunk = picture.nearest(halvings)
        factor = np.float32(0.5**there)
        along, down = (factor * (each + 0.5) - 0.5 for each in (x, y))
        coarse = cv2.remap(shrunk, along, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        share = np.clip(blur - (halvings - 1), 0, 1)[..., None]
        found = found + share * (np.asarray(coarse, np.float32).reshape(found.shape) - found)
    return found


def blurred_beyond(
    result: NDArray[np.uint8], image: NDArray[np.uint8], to_result: Affine
) -> NDArray[np.uint8]:
    """``result``, a picture of ``image``, blurred where it lies beyond the image."""
    x, y = places((result.shape[0], result.shape[1]), invert_affine(to_result))
    size = image.shape[0], image.shape[1]
    if all_inside(x, y, size):
        return result
    far = distance_beyond(x, y, size)
    found = continued(result.astype(np.float32), x, y, far, Halvings(image))
    return np.rint(found).astype(np.uint8)
