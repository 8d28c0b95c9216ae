r"""MediaPipe's short-range face detector: it sees faces at every angle, but only large ones.

It looks at windows of WINDOW pixels and tells a box for each of its 896 anchors: two in each cell
of a 16 x 16 grid and six in each of an 8 x 8 grid,

.. math:: c = a + (r_0, r_1), \quad (w, h) = (r_2, r_3)

in pixels of the window, with :math:`a` the middle of the cell. Boxes that overlap are averaged by
their probability. A picture larger than a window is looked at in several that overlap, so that each
face small enough for LARGEST lies whole in one of them.

The net is Google's (Apache-2.0); ``assets/README.md`` says where it comes from.

References:
    | BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs (Bazarevsky et al., 2019)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.search import Box
from facemorph_core.machine.inference import cpu_session

__all__ = ["GRAPH", "LARGEST", "WINDOW", "look"]

GRAPH = Path(__file__).parent.parent / "assets" / "mediapipe-faces.onnx"
WINDOW = 128
"""Side, pixels. Of a face its box is 15 of them and more: 58 of 60 faces of CelebA are found
there, 11 of 60 at 10 pixels."""
LARGEST = 48
"""Side of a box, pixels, that lies whole in a window wherever it is."""
SCORE_OF_CLEAR = 1.5
"""Logit that counts as a score of 1: of 300 faces of CelebA 294 have it."""
_OVERLAP = 0.3  # of two boxes, intersection over union, from which they are one face
_AT_ONCE = 8  # windows that the net is given together
_GREY = 127


def look(image: NDArray[np.uint8]) -> list[tuple[Box, float]]:
    """The faces of a picture with their scores: above 0, 1 and more for a clear one."""
    places = list(_windows(*image.shape[:2]))
    found = []
    for start in range(0, len(places), _AT_ONCE):
        part = places[start : start + _AT_ONCE]
        boxes, logits = _told(np.stack([_window(image, *place) for place in part]))
        for (left, top), each, scores in zip(part, boxes, logits, strict=True):
            for (x0, y0, x1, y1), score in _faces(each, scores):
                box = (x0 + left, y0 + top, x1 + left, y1 + top)
                found.append((box, score / SCORE_OF_CLEAR))
    return found


def _windows(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Left and top of each window; those of a row are evenly spaced."""
    for top in _starts(height):
        for left in _starts(width):
            yield left, top


def _starts(length: int) -> list[int]:
    """A picture that is smaller than a window lies in the middle of one."""
    if length <= WINDOW:
        return [-((WINDOW - length) // 2)]
    count = 1 + -(-(length - WINDOW) // (WINDOW - LARGEST))
    return np.linspace(0, length - WINDOW, count).round().astype(int).tolist()


def _window(image: NDArray[np.uint8], left: int, top: int) -> NDArray[np.uint8]:
    """Beyond the picture it is grey."""
    window = np.full((WINDOW, WINDOW, 3), _GREY, np.uint8)
    seen = image[max(0, top) : top + WINDOW, max(0, left) : left + WINDOW]
    below, right = max(0, -top), max(0, -left)
    window[below : below + seen.shape[0], right : right + seen.shape[1]] = seen
    return window


def _told(windows: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of (n, h, w, 3) windows the boxes (n, 896, 4), x0 y0 x1 y1, and their logits (n, 896)."""
    signed = windows.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    raw, logits = _session().run(["boxes", "scores"], {"images": signed})
    middle = raw[..., :2].astype(np.float64) + _anchors()
    half = raw[..., 2:4].astype(np.float64) / 2
    return np.concatenate([middle - half, middle + half], axis=-1), logits[..., 0]


def _faces(boxes: NDArray[np.float64], logits: NDArray[np.float64]) -> Iterator[tuple[Box, float]]:
    """The surest boxes, each the mean of those that lie over it."""
    sure = logits > 0
    boxes, logits = boxes[sure], logits[sure]
    weights = 1 / (1 + np.exp(-logits.astype(np.float64)))
    left = np.ones(len(logits), bool)
    while left.any():
        best = int(np.argmax(np.where(left, logits, -np.inf)))
        same = left & (_shared(boxes[best], boxes) > _OVERLAP)
        same[best] = True
        x0, y0, x1, y1 = np.average(boxes[same], axis=0, weights=weights[same]).tolist()
        yield (x0, y0, x1, y1), float(logits[best])
        left &= ~same


def _shared(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union with each."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return both / ((box[2:] - box[:2]).prod() + areas - both)


@cache
def _anchors() -> NDArray[np.float64]:
    """(896, 2), (x, y) pixels of the window."""
    parts = []
    for cells, each in ((16, 2), (8, 6)):
        middles = (np.arange(cells) + 0.5) * WINDOW / cells
        x, y = np.meshgrid(middles, middles)
        parts.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), each, axis=0))
    return np.concatenate(parts)


@cache
def _session() -> Any:
    return cpu_session(GRAPH.read_bytes(), threads=1)
