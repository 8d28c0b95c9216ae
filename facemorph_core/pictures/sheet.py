"""The contact sheet: every frame of a morph on one page, the photos it came from at its ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GAP = 4
LABEL = 16  # height of a label, pixels
PAPER, INK = (255, 255, 255), (60, 60, 60)
WIDEST = 7  # pictures a row

Ends = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def draw_sheet(
    frames: NDArray[np.uint8],
    *,
    ends: Ends | None = None,
    labels: Sequence[str] | None = None,
) -> Image.Image:
    """``frames`` (n, S, S, 3) row by row; with ``ends``, the two photos first and last.

    ``labels`` holds one text for each frame; the photos are labelled by themselves.
    """
    height, width = frames.shape[1:3]
    sheet = Sheet(len(frames), (height, width), ends=ends, labels=labels)
    for frame in frames:
        sheet.add(frame)
    return sheet.picture


class Sheet:
    """As `draw_sheet`, of frames that come one at a time; it is done with the last."""

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        *,
        ends: Ends | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """``count`` frames of ``size``, (h, w), will be added."""
        self._size = size
        self._columns, (height, width) = sheet_size(count + 2 * bool(ends), size)
        self.picture = Image.new("RGB", (width, height), PAPER)
        self._draw, self._font = ImageDraw.Draw(self.picture), ImageFont.load_default(11)
        self._texts, self._added = list(labels or [""] * count), int(bool(ends))
        if ends is not None:
            photos = [_fitted(end, size[0]) for end in ends]
            self._put(photos[0], "photo A", 0)
            self._put(photos[1], "photo B", count + 1)
            self._texts.insert(0, "")

    def add(self, frame: NDArray[np.uint8]) -> None:
        """The next one, (h, w, 3)."""
        self._put(Image.fromarray(frame), self._texts[self._added], self._added)
        self._added += 1

    def _put(self, picture: Image.Image, text: str, place: int) -> None:
        height, width = self._size
        row, column = divmod(place, self._columns)
        x, y = GAP + column * (width + GAP), GAP + row * (height + LABEL + GAP)
        self.picture.paste(picture, (x, y))
        self._draw.text((x + width / 2, y + height + LABEL / 2), text, INK, self._font, anchor="mm")


def sheet_size(pictures: int, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Columns, and (h, w) of a sheet of so many pictures of ``size``."""
    rows = math.ceil(pictures / WIDEST)
    columns = math.ceil(pictures / rows)
    height, width = size
    return columns, (rows * (height + LABEL + GAP) + GAP, columns * (width + GAP) + GAP)


def _fitted(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
