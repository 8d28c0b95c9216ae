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


def draw_sheet(
    frames: NDArray[np.uint8],
    *,
    ends: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None,
    labels: Sequence[str] | None = None,
) -> Image.Image:
    """``frames`` (n, S, S, 3) row by row; with ``ends``, the two photos first and last.

    ``labels`` holds one text for each frame; the photos are labelled by themselves.
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    texts = list(labels or [""] * len(frames))
    if ends is not None:
        side = frames.shape[1]
        photos = [_fitted(end, side) for end in ends]
        pictures = [photos[0], *pictures, photos[1]]
        texts = ["photo A", *texts, "photo B"]
    return _laid_out(pictures, texts)


def _laid_out(pictures: Sequence[Image.Image], texts: Sequence[str]) -> Image.Image:
    rows = math.ceil(len(pictures) / WIDEST)
    columns = math.ceil(len(pictures) / rows)
    width, height = pictures[0].size
    step_x, step_y = width + GAP, height + LABEL + GAP
    sheet = Image.new("RGB", (columns * step_x + GAP, rows * step_y + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for index, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        row, column = divmod(index, columns)
        x, y = GAP + column * step_x, GAP + row * step_y
        sheet.paste(picture, (x, y))
        draw.text((x + width / 2, y + height + LABEL / 2), text, INK, font, anchor="mm")
    return sheet


def _fitted(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
