r"""The mesh over a frame: triangles between landmarks, the outline of the head and the border.

Two faces share one net of triangles, laid once over the mean shape. Inside each triangle a point
moves by the affine map that takes its corners along, so landmarks go exactly where they are sent,
nothing jumps between triangles, and the border stays where it is.

dlib's 68 points end at the brows. The outline adds an arc over the forehead that follows the face
by the affine map which best explains its landmarks, so that hair and forehead move with it.

Convention:
    vertices are (V, 2) in pixels of the canonical frame of FRAME_SIZE: the 68 landmarks, the arc,
    the border. Displacements are (FRAME_SIZE, FRAME_SIZE, 2) float32, (x, y): for each pixel of the
    target the place in the source, minus its own. Those onto itself are 0 to the last bit.

References:
    | Digital Image Warping (Wolberg, 1990), mesh warping
    | Sur la sphère vide (Delaunay, 1934)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import FRAME_SIZE, NUM_LANDMARKS, mean_shape
from facemorph_core.alignment.geometry import Points

__all__ = ["Displacement", "displacements", "head", "places", "triangles", "vertices"]

Values = NDArray[np.float32]
Displacement = Values

BORDER = 5
"""Points on each side of the frame, corners included."""
ARC_DEGREES = (200, 225, 250, 270, 290, 315, 340)
ARC_WIDTH, ARC_HEIGHT = 1.02, 1.15
"""Half axes of the arc over the forehead, in half widths of the jaw."""
_LEFT_JAW, _RIGHT_JAW, _BETWEEN_EYES = 0, 16, 27
_SUBPIXEL_BITS = 4  # of the corners that OpenCV paints between


def vertices(landmarks: Points) -> Points:
    """The mesh of a face with ``landmarks`` (68, 2) in the canonical frame."""
    return np.concatenate([np.clip(head(landmarks), 0, FRAME_SIZE - 1), _border()])


def head(landmarks: Points) -> Points:
    """The 68 landmarks and the arc over the forehead."""
    return np.concatenate([landmarks, _arc(landmarks)])


def displacements(target: Points, sources: Sequence[Points]) -> list[Displacement]:
    """How far from each pixel of the target its place in each source lies; all are `vertices`."""
    net, (x, y) = triangles(), _here()
    owner = np.full((FRAME_SIZE, FRAME_SIZE), len(net), np.int32)
    corners = np.round(target[net] * 2**_SUBPIXEL_BITS).astype(np.int32)
    for number in np.flatnonzero(_turns(target) == _turns(vertices(mean_shape()))):
        # a triangle turned over, as in a closed mouth, lies where others cover the frame twice
        cv2.fillConvexPoly(owner, corners[number], int(number), shift=_SUBPIXEL_BITS)
    found = []
    for source in sources:
        affine = _displacing(target[net], source[net])[owner]
        along_x, along_y, shift = np.moveaxis(affine, -1, 0)
        found.append(along_x * x[..., None] + along_y * y[..., None] + shift)
    return found


def places(displacement: Displacement) -> tuple[Values, Values]:
    """(x, y), each (FRAME_SIZE, FRAME_SIZE): where in the source each pixel lies."""
    x, y = _here()
    return x + displacement[..., 0], y + displacement[..., 1]


@cache
def triangles() -> NDArray[np.intp]:
    """(T, 3) numbers of vertices: the Delaunay net of the mean shape."""
    points = vertices(mean_shape())
    far = 3 * FRAME_SIZE
    net = cv2.Subdiv2D((-FRAME_SIZE, -FRAME_SIZE, far, far))
    for x, y in points.tolist():
        net.insert((x, y))
    found = np.asarray(net.getTriangleList()).reshape(
        -1, 3, 1, 2
    )  # with some to corners far outside
    away = ((found - points) ** 2).sum(axis=-1)
    ours = away.min(axis=-1).max(axis=-1) < 1e-3
    return away.argmin(axis=-1)[ours]


def _turns(points: Points) -> NDArray[np.float64]:
    """(T,) +1 or -1: which way round the corners of each triangle go; 0 without area."""
    first, *others = np.moveaxis(points[triangles()], 1, 0)
    (ax, ay), (bx, by) = ((other - first).T for other in others)
    return np.sign(ax * by - ay * bx)


def _displacing(target: Points, source: Points) -> NDArray[np.float32]:
    """(T + 1, 2, 3) affine maps of triangles (T, 3, 2), place -> displacement.

    0 for one without area, and for the last, which owns what no triangle covers.
    """
    edges = target[:, 1:] - target[:, :1]
    moves = source - target
    flat = np.abs(np.linalg.det(edges)) < 1e-9
    edges[flat] = np.eye(2)
    linear = np.linalg.solve(edges, moves[:, 1:] - moves[:, :1]).transpose(0, 2, 1)
    linear[flat] = 0
    shift = moves[:, 0] - np.einsum("tij,tj->ti", linear, target[:, 0])
    affine = np.concatenate([linear, shift[..., None]], axis=-1)
    return np.concatenate([affine, np.zeros((1, 2, 3))]).astype(np.float32)


def _arc(landmarks: Points) -> Points:
    """The arc over the forehead, carried along by the affine map mean shape -> landmarks."""
    mean = mean_shape()
    half = (mean[_RIGHT_JAW, 0] - mean[_LEFT_JAW, 0]) / 2
    angles = np.deg2rad(ARC_DEGREES)
    x = mean[_BETWEEN_EYES, 0] + ARC_WIDTH * half * np.cos(angles)
    y = mean[_LEFT_JAW, 1] + ARC_HEIGHT * half * np.sin(angles)
    ones = np.ones((NUM_LANDMARKS, 1))
    affine = np.linalg.lstsq(np.hstack([mean, ones]), landmarks, rcond=None)[0]
    return np.column_stack([x, y, np.ones(len(x))]) @ affine


@cache
def _border() -> Points:
    """Points that stay: on the outer edge of the outermost pixels."""
    along = np.linspace(-0.5, FRAME_SIZE - 0.5, BORDER)
    low, high = np.full(BORDER, -0.5), np.full(BORDER, FRAME_SIZE - 0.5)
    sides = [(along, low), (along, high), (low, along), (high, along)]
    return np.unique(np.concatenate([np.column_stack(side) for side in sides]), axis=0)


@cache
def _here() -> tuple[Values, Values]:
    """Every pixel's own place."""
    along = np.arange(FRAME_SIZE, dtype=np.float32)
    x, y = np.meshgrid(along, along)
    return x, y
