"""Film strips: the frames of a morph side by side, one mode below the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facemorph_core.alignment.frame import FRAME_SIZE
from facemorph_core.alignment.photo import on_white
from facemorph_core.morphing.choices import Mode
from facemorph_core.morphing.engine import Morpher
from facemorph_core.morphing.layers import Face
from facemorph_core.morphing.transition import alphas

__all__ = ["Strip", "draw_strips", "film_strip", "film_strips"]

GAP = 2
SHOWN = 9
"""Frames of a strip."""
PAPER, INK = "white", (60, 60, 60)


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """One pair in every mode: mode -> its frames (n, h, w, 3), side by side."""

    frames: dict[str, NDArray[np.uint8]]


def film_strips(
    pairs: Iterable[Sequence[Face]],
    morpher: Morpher,
    modes: Sequence[Mode],
    *,
    size: int = FRAME_SIZE,
    shown: int = SHOWN,
) -> list[Strip]:
    """Of each pair of faces, ``shown`` frames of ``size`` pixels in each mode, on white."""
    own = {mode: morpher.but(mode=mode, compose="frame", size=size) for mode in modes}
    places = alphas(shown)
    return [
        Strip({mode: _opaque(each.between(pair).frames(places)) for mode, each in own.items()})
        for pair in pairs
    ]


def _opaque(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([on_white(frame) for frame in frames])


def film_strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (n, h, w, 3) side by side on white."""
    gap = np.full((frames.shape[1], GAP, 3), 255, np.uint8)
    parts = [part for frame in frames for part in (frame, gap)]
    return np.concatenate(parts[:-1], axis=1)


def draw_strips(strips: Sequence[Strip]) -> Image.Image:
    """Every mode's frames in a row, its name upright at the left; strips below each other."""
    rows = [
        (mode, Image.fromarray(film_strip(frames)))
        for strip in strips
        for mode, frames in strip.frames.items()
    ]
    width, height = rows[0][1].size
    margin = max(16, height // 6)
    sheet = Image.new("RGB", (margin + width, len(rows) * (height + GAP) - GAP), PAPER)
    for number, (mode, row) in enumerate(rows):
        top = number * (height + GAP)
        sheet.paste(_upright(mode, height, margin), (0, top))
        sheet.paste(row, (margin, top))
    return sheet


def _upright(text: str, height: int, width: int) -> Image.Image:
    """To be read from below."""
    sign = Image.new("RGB", (height, width), PAPER)
    font = ImageFont.load_default(max(10, width // 2))
    ImageDraw.Draw(sign).text((height / 2, width / 2), text, INK, font, anchor="mm")
    return sign.transpose(Image.Transpose.ROTATE_90)
