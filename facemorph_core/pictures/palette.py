"""The 256 colours of a GIF, chosen so that what is small and coloured keeps its colour.

A palette that divides pixels evenly goes to what is large: a face becomes two hundred shades of
skin and wall, blue eyes become grey and lips brown. Here a colour counts by the fourth root of how
often it is seen, so that sixteen times as many pixels are worth twice as many places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.photo import on_white

__all__ = ["Colours", "quantised"]

LOOKED_AT = 2**17
"""Pixels of all frames together that are counted."""
CHOSEN_FROM = 2**14
"""Pixels that the palette is made of; more take longer than they gain."""
RARITY = 0.25
"""What the number of a colour's pixels is raised to: 1 is a palette by area, 0 one by gamut."""
BITS = 4
"""Of a channel, by which a colour is told from another when they are counted."""
TRANSPARENT = 255
"""The number of what is not there."""
_GOLDEN = (5**0.5 - 1) / 2


class Colours:
    """Looks at frames as they come, and says which colours to show them in."""

    def __init__(self, count: int) -> None:
        """``count`` frames will come."""
        self._share = max(1, LOOKED_AT // count)
        self._seen: list[NDArray[np.uint8]] = []
        self._clear = False

    def look(self, frame: NDArray[np.uint8]) -> None:
        """At some pixels of a frame (h, w, 3 or 4), in each at other places."""
        pixels = frame.reshape(-1, frame.shape[2])
        shift = len(self._seen) * _GOLDEN % 1
        places = (np.arange(self._share) + shift) / self._share * len(pixels)
        seen = pixels[np.minimum(places.astype(int), len(pixels) - 1)]
        if frame.shape[2] == 4:
            self._clear = True
            seen = on_white(seen[seen[:, 3] >= 128][None])[0]
        self._seen.append(seen)

    def palette(self) -> Image.Image:
        """One for all frames together: a palette for each would flicker."""
        pixels = np.concatenate(self._seen)
        if len(pixels) == 0:  # nothing is there in any frame
            pixels = np.full((1, 3), 255, np.uint8)
        sample = Image.fromarray(_by_rarity(pixels).reshape(-1, 128, 3))
        colours = TRANSPARENT if self._clear else 256
        return sample.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=1)


def quantised(frame: NDArray[np.uint8], palette: Image.Image) -> Image.Image:
    """In the palette's colours, dithered; what is more than half transparent is not there."""
    opaque = Image.fromarray(on_white(frame))
    found = opaque.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    if frame.shape[2] == 4:
        found.paste(TRANSPARENT, mask=Image.fromarray(frame[..., 3] < 128))
    return found


def _by_rarity(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """CHOSEN_FROM of the pixels (n, 3), in which a colour is there by its count ** RARITY."""
    parts = (pixels >> (8 - BITS)).astype(np.int64)
    colour = (parts << np.array([2 * BITS, BITS, 0])).sum(axis=1)
    reach = np.cumsum(np.bincount(colour)[colour] ** (RARITY - 1.0))
    places = (np.arange(CHOSEN_FROM) + 0.5) / CHOSEN_FROM * reach[-1]
    return pixels[np.minimum(np.searchsorted(reach, places), len(pixels) - 1)]
