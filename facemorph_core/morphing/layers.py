r"""A frame between faces: geometry, decoded texture, and the faces' own detail.

    full      all three: at the ends the photos themselves, by construction
    latent    what the decoder draws, alone
    landmark  the classical morph: photos warped to the same shape and cross-faded

A face is its photo in the frame, its mesh and its code. Every photo x_i is parted into what is
coarse, l_i (the decoder's picture of it and a blur of the rest), and its fine detail. With W_i the
warp from face i to the frame's mesh, W that from the mean shape, and T the decoder's texture,

.. math::
    f = W[T(\sum_i w_i z_i) - \sum_i w_i T(z_i)]
        + \sum_i s_i \, W_i[l_i] + \sum_i g_i \, W_i[x_i - l_i]

The first term is what the decoder knows better than a fade: one hairline where a fade shows two.
`detail` says what the shares s and the gains g of each face are at each place. With all weight on
one face the first term vanishes, s = g = 1 and W_i is the identity: the frame is the photo.

A `View` is what is shown: the frame at any size, or as much around it as the photos hold. Towards
the edge of the frame both then become the plain fade that surrounds it, so there is no seam.

Convention:
    points, meshes and codes are those of the canonical frame of FRAME_SIZE pixels; weights (P,)
    of P faces sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, assert_never

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment import mesh
from facemorph_core.alignment.frame import FRAME_SIZE, mean_shape
from facemorph_core.alignment.geometry import (
    Affine,
    Points,
    compose_affine,
    invert_affine,
    rescaling,
    scale_of,
)
from facemorph_core.bundle.read import Bundle
from facemorph_core.morphing import detail
from facemorph_core.morphing.choices import Mode

__all__ = ["Face", "Layers", "View"]

Values = NDArray[np.float32]
Weights = NDArray[np.float64]

EDGE = 12
"""Pixels of the canonical frame over which it passes into its surroundings."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One of the faces that are morphed."""

    pixels: NDArray[np.uint8]
    """(128, 128, 3) in the canonical frame."""
    landmarks: Points
    """(68, 2) there."""
    code: NDArray[np.float32]
    """(D,)."""
    photo: NDArray[np.uint8]
    """(H, W, C), RGB and perhaps more: what is shown."""
    to_frame: Affine
    """Pixels of the photo -> those of the canonical frame."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What of the frame's plane a picture shows."""

    size: tuple[int, int]
    """(h, w) of the picture."""
    to_frame: Affine
    """Pixels of the picture -> those of the canonical frame."""
    surroundings: bool
    """Whether more than the frame is seen."""

    @staticmethod
    def of_frame(side: int) -> View:
        """The frame alone, ``side`` pixels high and wide."""
        return View((side, side), rescaling(FRAME_SIZE / side), surroundings=False)


class Layers:
    """Faces taken apart once, so that any number of frames can be put together."""

    def __init__(self, bundle: Bundle, faces: Sequence[Face], mode: Mode = "full") -> None:
        self.bundle, self.mode = bundle, mode
        self._photos = [_Pyramid(face.photo, invert_affine(face.to_frame)) for face in faces]
        self._meshes = np.stack([mesh.vertices(face.landmarks) for face in faces])
        self._mean = mesh.vertices(mean_shape())
        if mode == "full":
            self._take_apart(faces)

    def frame(
        self, code: NDArray[np.float32], shape: Weights, texture: Weights, view: View
    ) -> NDArray[np.uint8]:
        """The picture (h, w, C) of ``code``: features by ``shape``, the rest by ``texture``."""
        match self.mode:
            case "latent":
                drawn = self.bundle.decode(code[None])[0]
                found = self._drawn_alone(_resized(drawn, FRAME_SIZE), shape, texture, view)
            case "landmark":
                found = self._cross_faded(shape, texture, view)
            case "full":
                found = self._layered(code, shape, texture, view)
            case _:
                assert_never(self.mode)
        return _levels(found)

    def _take_apart(self, faces: Sequence[Face]) -> None:
        self._textures = self._drawn(np.stack([face.code for face in faces]))
        photos = [face.pixels.astype(np.float32) for face in faces]
        self._low = [
            base + detail.blurred(photo - base, detail.COARSE)
            for photo, base in zip(photos, self._bases(), strict=True)
        ]
        fine = [photo - low for photo, low in zip(photos, self._low, strict=True)]
        normal = [
            _moved(each, *mesh.displacements(self._mean, [own]))
            for each, own in zip(fine, self._meshes, strict=True)
        ]
        self._agreement = detail.agreement(np.stack(normal))
        self._preferences = np.zeros_like(self._agreement.energies)

    def _drawn(self, codes: NDArray[np.float32]) -> Values:
        """What the decoder draws, (n, 128, 128, 3)."""
        return np.stack([_resized(each, FRAME_SIZE) for each in self.bundle.textures(codes)])

    def _bases(self) -> list[Values]:
        """What the decoder draws of each face, in the face's own frame."""
        if self.bundle.geometry.kind == "plain":
            return list(self._textures)
        return [
            _moved(texture, *mesh.displacements(own, [self._mean]))
            for texture, own in zip(self._textures, self._meshes, strict=True)
        ]

    def _layered(
        self, code: NDArray[np.float32], shape: Weights, texture: Weights, view: View
    ) -> Values:
        target = np.tensordot(shape, self._meshes, axes=1)
        *own, mean = mesh.displacements(target, [*self._meshes, self._mean])
        shares = self._in_target(detail.shares(texture, self._preferences), mean)
        gains = self._in_target(detail.gains(texture, self._preferences, self._agreement), mean)
        common = self._drawn(code[None])[0]
        common -= np.tensordot(texture.astype(np.float32), self._textures, axes=1)
        coarse = _moved(common, mean)
        for number in np.flatnonzero(texture).tolist():
            coarse += (shares - gains)[..., number, None] * _moved(self._low[number], own[number])
        fade = texture.astype(np.float32)
        inner = _inner() if view.surroundings else np.ones((FRAME_SIZE, FRAME_SIZE, 1), np.float32)
        gains = fade + _shown(inner * (gains - fade), view)
        result = self._faded(gains, texture, own, view)
        result[..., :3] += _shown(inner * coarse, view)
        return result

    def _cross_faded(self, shape: Weights, texture: Weights, view: View) -> Values:
        target = np.tensordot(shape, self._meshes, axes=1)
        own = mesh.displacements(target, list(self._meshes))
        gains = np.broadcast_to(texture.astype(np.float32), (*view.size, len(texture)))
        return self._faded(gains, texture, own, view)

    def _faded(
        self, gains: Values, texture: Weights, own: Sequence[mesh.Displacement], view: View
    ) -> Values:
        """The photos warped, in sum; ``gains`` (h, w, P) hold for colours, not for what is more."""
        result = np.zeros((*view.size, self._photos[0].channels), np.float32)
        for number in np.flatnonzero(texture).tolist():
            photo = self._photos[number].sampled(own[number], view)
            result[..., :3] += gains[..., number, None] * photo[..., :3]
            result[..., 3:] += np.float32(texture[number]) * photo[..., 3:]
        return result

    def _drawn_alone(self, drawn: Values, shape: Weights, texture: Weights, view: View) -> Values:
        picture = _shown(drawn, view)
        if not view.surroundings and self._photos[0].channels == 3:
            return picture
        result = self._cross_faded(shape, texture, view)
        weight = _shown(_inner(), view) if view.surroundings else np.float32(1)
        result[..., :3] += weight * (picture - result[..., :3])
        return result

    def _in_target(self, maps: Values, mean: mesh.Displacement) -> Values:
        """Maps (P, s, s) over the mean shape as (128, 128, P) over the frame's mesh."""
        scale = np.float32(maps.shape[1] / FRAME_SIZE)
        x, y = (scale * (along + 0.5) - 0.5 for along in mesh.places(mean))
        found = [
            cv2.remap(each, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for each in maps
        ]
        return np.stack(found, axis=-1).astype(np.float32)


class _Pyramid:
    """A photo at its own size and at halves of it, for views that show it smaller."""

    def __init__(self, photo: NDArray[np.uint8], from_frame: Affine) -> None:
        self.levels, self.from_frame = [photo], from_frame
        self.channels = photo.shape[2]

    def sampled(self, away: mesh.Displacement, view: View) -> Values:
        """The photo in ``view``, each place of the frame ``away`` from where it is seen."""
        to_photo = compose_affine(self.from_frame, view.to_frame)
        level = max(0, round(math.log2(scale_of(to_photo))))
        while len(self.levels) <= level and min(self.levels[-1].shape[:2]) > 1:
            h, w = self.levels[-1].shape[:2]
            half = cv2.resize(self.levels[-1], ((w + 1) // 2, (h + 1) // 2), interpolation=3)
            self.levels.append(np.asarray(half, np.uint8))
        level = min(level, len(self.levels) - 1)
        moved = _shown(away, view, cv2.BORDER_CONSTANT)
        x, y = _plane(view.size, compose_affine(rescaling(0.5**level), to_photo))
        linear = (0.5**level * self.from_frame[:, :2]).astype(np.float32)
        x = x + linear[0, 0] * moved[..., 0] + linear[0, 1] * moved[..., 1]
        y = y + linear[1, 0] * moved[..., 0] + linear[1, 1] * moved[..., 1]
        found = cv2.remap(
            self.levels[level], x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(found, np.float32).reshape(*view.size, self.channels)


def _shown(picture: Values, view: View, border: int = cv2.BORDER_REPLICATE) -> Values:
    """A picture (128, 128, C) of the frame, in ``view``."""
    x, y = _plane(view.size, view.to_frame)
    channels = picture.shape[2]
    parts = [
        np.asarray(cv2.remap(picture[..., start : start + 4], x, y, way, borderMode=border))
        for start in range(0, channels, 4)
        for way in [cv2.INTER_CUBIC if border == cv2.BORDER_REPLICATE else cv2.INTER_LINEAR]
    ]
    return np.concatenate([part.reshape(*view.size, -1) for part in parts], axis=-1)


def _plane(size: tuple[int, int], affine: Affine) -> tuple[Values, Values]:
    """Where ``affine`` sends each pixel, (x, y) of shape (h, w)."""
    across, down = np.arange(size[1]), np.arange(size[0])[:, None]
    x, y = (row[0] * across + row[1] * down + row[2] for row in affine)
    return x.astype(np.float32), y.astype(np.float32)


@cache
def _inner() -> Values:
    """(128, 128, 1) in 0..1: 0 at the edge of the frame, 1 from EDGE pixels inside on."""
    depth = np.minimum(np.arange(FRAME_SIZE), np.arange(FRAME_SIZE)[::-1]) / EDGE
    ramp = np.clip(depth, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.minimum(ramp, ramp[:, None])[..., None].astype(np.float32)


def _moved(picture: Values, away: mesh.Displacement) -> Values:
    x, y = mesh.places(away)
    found = cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(found, np.float32)


def _resized(picture: NDArray[Any], side: int) -> Values:
    """A square picture (S, S, 3) at another side."""
    if len(picture) != side:
        way = cv2.INTER_AREA if side < len(picture) else cv2.INTER_CUBIC
        picture = np.asarray(cv2.resize(picture, (side, side), interpolation=way))
    return picture.astype(np.float32)


def _levels(picture: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
