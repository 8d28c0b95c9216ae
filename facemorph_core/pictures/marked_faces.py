"""Numbered boxes on a photo: which face has which number, and where its landmarks lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_boxes"]

LONGEST = 2048
"""Side of the picture, pixels: it is looked at."""
COLOURS = ((37, 99, 235), (217, 119, 6), (5, 150, 105), (219, 39, 119), (124, 58, 237))
PAPER = (255, 255, 255)
LEAST_LETTERS, LETTERS = 12, 1 / 45
"""Height of the numbers, pixels and of the longer side."""


def draw_boxes(
    image: NDArray[np.uint8],
    boxes: Sequence[tuple[float, float, float, float]],
    landmarks: Sequence[NDArray[np.float64]],
) -> Image.Image:
    """The image (H, W, 3), at most LONGEST a side, with each face's box, number and landmarks.

    Boxes are (left, top, right, bottom) and landmarks (68, 2), in pixels of the image; the first
    has the number 1.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    factor = picture.width / image.shape[1]
    draw = ImageDraw.Draw(picture)
    longest = max(picture.size)
    font = ImageFont.load_default(max(LEAST_LETTERS, round(longest * LETTERS)))
    width = max(2, round(longest / 400))
    faces = list(zip(boxes, landmarks, strict=True))
    for number, (box, points) in reversed(list(enumerate(faces, 1))):  # the first lies on top
        colour = COLOURS[(number - 1) % len(COLOURS)]
        left, top, right, bottom = (factor * edge for edge in box)
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        radius = max(1.0, width / 2)
        for x, y in (factor * points).tolist():
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        label = draw.textbbox((0, 0), f" {number} ", font=font)
        corner = max(left, 0), max(top - label[3] - width, 0)  # above, not on a small face
        draw.rectangle(draw.textbbox(corner, f" {number} ", font=font), fill=colour)
        draw.text(corner, f" {number} ", PAPER, font)
    return picture
