"""The 256 colours of a GIF, chosen so that what is small and coloured keeps its colour.

A palette that divides pixels evenly goes to what is large: a face becomes two hundred shades of
skin and wall, blue eyes become grey and lips brown. Here a colour counts by the square root of how
often it is seen, so that four times as many pixels are worth twice as many places; and the places
are where they err least in CIELAB, where distances are those that the eye sees.

References:
    | Least squares quantization in PCM (Lloyd, 1982): k-means, from a median cut on
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.photo import on_white

__all__ = ["Colours", "quantised"]

LOOKED_AT = 2**17
"""Pixels of all frames together that are counted."""
CHOSEN_FROM = 2**13
"""Pixels that the palette is made of; more take longer than they gain."""
RARITY = 0.5
"""What the number of a colour's pixels is raised to: 1 is a palette by area, 0 one by gamut. Below
.5 skin is dithered more than small things gain (decision 020)."""
PASSES, STILL = 5, 0.1
"""How often the colours are moved at most, and by how little in CIELAB they count as settled."""
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
        sample = _by_rarity(pixels)
        colours = TRANSPARENT if self._clear else 256
        picture = Image.fromarray(sample.reshape(-1, 128, 3))
        cut = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=1)
        palette = Image.new("P", (1, 1))
        palette.putpalette(_settled(sample, np.asarray(cut).ravel(), colours).tobytes())
        return palette


def quantised(frame: NDArray[np.uint8], palette: Image.Image) -> Image.Image:
    """In the palette's colours, dithered; what is more than half transparent is not there."""
    opaque = Image.fromarray(on_white(frame))
    found = opaque.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    if frame.shape[2] == 4:
        found.paste(TRANSPARENT, mask=Image.fromarray(frame[..., 3] < 128))
    return found


def _settled(
    pixels: NDArray[np.uint8], labels: NDArray[np.uint8], colours: int
) -> NDArray[np.uint8]:
    """``colours`` (n, 3) for pixels (N, 3), from those that the ``labels`` (N,) part them into."""
    seen = cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    ending = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, PASSES, STILL)
    begun = labels.astype(np.int32)[:, None]
    way = cv2.KMEANS_USE_INITIAL_LABELS
    _, _, centres = cv2.kmeans(np.asarray(seen), colours, begun, ending, 1, way)
    shown = cv2.cvtColor(np.asarray(centres)[None], cv2.COLOR_LAB2RGB)[0]
    return np.clip(np.rint(255 * np.asarray(shown)), 0, 255).astype(np.uint8)


def _by_rarity(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """CHOSEN_FROM of the pixels (n, 3), in which a colour is there by its count ** RARITY."""
    parts = (pixels >> (8 - BITS)).astype(np.int64)
    colour = (parts << np.array([2 * BITS, BITS, 0])).sum(axis=1)
    reach = np.cumsum(np.bincount(colour)[colour] ** (RARITY - 1.0))
    places = (np.arange(CHOSEN_FROM) + 0.5) / CHOSEN_FROM * reach[-1]
    return pixels[np.minimum(np.searchsorted(reach, places), len(pixels) - 1)]
