r"""A frame between faces: geometry, decoded texture, and the faces' own detail.

    full      all three: at the ends the photos themselves, by construction
    latent    what the decoder draws, alone
    landmark  the classical morph: photos warped to the same shape and cross-faded

A face is its photo in the frame, its mesh and its code. Every photo x_i is parted into what is
coarse, l_i (the decoder's picture of it and a blur of the rest), and its fine detail. With W_i the
warp from face i to the frame's mesh, W that from the mean shape, T the decoder's texture, and o
from 0 on the face to 1 around it,

.. math::
    f = d \, W[(1 - o) (T(\sum_i w_i z_i) - \sum_i w_i T(z_i))]
        + \sum_i v_i \, W_i[l_i] + \sum_i g_i \, W_i[x_i - l_i]

The first term is what the decoder knows better than a fade, d = DRAWN of it. On the face v_i is
w_i, a fade, and around it the choice of one face (`surroundings`); `detail` says what the gain g of
each face is at each place. With all weight on one face the first term vanishes, v = g = 1 and W_i
is the identity: the frame is the photo.

A `View` is what is shown: the frame at any size, or as much around it as the photos hold. Towards
the edge of the frame v and g become what they are beyond it, so there is no seam.

Convention:
    points, meshes and codes are those of the canonical frame of FRAME_SIZE pixels; weights (P,)
    of P faces sum to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment import mesh
from facemorph_core.alignment.beyond import lacking as lacking_in
from facemorph_core.alignment.frame import FRAME_SIZE, mean_shape
from facemorph_core.alignment.geometry import Affine, Points
from facemorph_core.bundle.read import Bundle
from facemorph_core.morphing import detail, surroundings
from facemorph_core.morphing.choices import Mode
from facemorph_core.morphing.lacking import handed_over
from facemorph_core.morphing.opacity import alike
from facemorph_core.morphing.view import Photo, Places, View, inner

__all__ = ["Face", "Layers"]

Values = NDArray[np.float32]
Weights = NDArray[np.float64]

DRAWN = 0.25
"""How much of what the decoder knows better than a fade is shown."""


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
    """(H, W, 3) RGB or (H, W, 4) RGBA: what is shown."""
    to_frame: Affine
    """Pixels of the photo -> those of the canonical frame."""
    lacking: NDArray[np.float32] | None = None
    """(H, W) in 0..1: 1 where ``photo`` was made up, for there was none; None: nowhere."""


class Layers:
    """Faces taken apart once, so that any number of frames can be put together."""

    def __init__(self, bundle: Bundle, faces: Sequence[Face], mode: Mode = "full") -> None:
        self.bundle, self.faces, self.mode = bundle, list(faces), mode
        photos = alike([face.photo for face in faces])
        self._photos = [
            Photo(each, face.to_frame, face.lacking)
            for each, face in zip(photos, faces, strict=True)
        ]
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
        lacking = np.array([surroundings.part_lacking(_lacking_of_frame(face)) for face in faces])
        self._preferred_around = surroundings.preferences(self._agreement, lacking)
        own, around = detail.preferences(self._agreement), surroundings.around()
        self._preferred = own + around * (self._preferred_around[:, None, None] - own)
        self._decided = surroundings.decided(around, len(faces))

    def _drawn(self, codes: NDArray[np.float32]) -> Values:
        """What the decoder draws, (n, 128, 128, 3)."""
        return np.stack([_resized(each, FRAME_SIZE) for each in self.bundle.textures(codes)])

    def _bases(self) -> list[Values]:
        """What the decoder draws of each face, in the face's own frame."""
        lie = self.bundle.geometry.texture_landmarks
        if lie is None:
            return list(self._textures)
        return [
            _moved(texture, *mesh.displacements(own, [mesh.vertices(lie)]))
            for texture, own in zip(self._textures, self._meshes, strict=True)
        ]

    def _layered(
        self, code: NDArray[np.float32], shape: Weights, texture: Weights, view: View
    ) -> Values:
        target = np.tensordot(shape, self._meshes, axes=1)
        *own, mean = mesh.displacements(target, [*self._meshes, self._mean])
        given = surroundings.shares(texture, self._preferred_around)
        kept = detail.gains(texture, given, self._preferred, self._agreement, self._decided)
        maps = np.concatenate([1 - surroundings.around()[None], given, kept])
        face, shares, gains = np.split(self._in_target(maps, mean), (1, 1 + len(texture)), axis=-1)
        beyond = surroundings.beyond(texture, self._preferred_around)
        within = inner() if view.placed else np.ones_like(inner())
        drawn = within * DRAWN * face * _moved(self._common(code, texture), mean)

        def shown(each: Values) -> Values:
            return np.asarray(beyond + view.shown(within * (each - beyond)))

        there = self._places(texture, own, view)
        coarse = {
            number: within * (shares - gains)[..., number, None] * _moved(self._low[number], away)
            for number, away in ((number, own[number]) for number in there)
        }
        lacking = self._lacking_in_view(there, view)
        if lacking is None and self._photos[0].channels == 3:  # then their sum is shown at once
            drawn, coarse = drawn + sum(coarse.values()), {}
        result = self._faded(shown(gains), shown(shares), texture, there, lacking, view, coarse)
        result[..., :3] += view.shown(drawn)
        return result

    def _common(self, code: NDArray[np.float32], texture: Weights) -> Values:
        """What the decoder draws of ``code`` and a fade of its pictures of the faces does not."""
        faded = np.tensordot(texture.astype(np.float32), self._textures, axes=1)
        return np.asarray(self._drawn(code[None])[0] - faded, np.float32)

    def _cross_faded(self, shape: Weights, texture: Weights, view: View) -> Values:
        target = np.tensordot(shape, self._meshes, axes=1)
        there = self._places(texture, mesh.displacements(target, list(self._meshes)), view)
        fade = np.broadcast_to(texture.astype(np.float32), (*view.size, len(texture)))
        return self._faded(fade, fade, texture, there, self._lacking_in_view(there, view), view, {})

    def _drawn_alone(self, drawn: Values, shape: Weights, texture: Weights, view: View) -> Values:
        picture = view.shown(drawn)
        if not view.placed and self._photos[0].channels == 3:
            return picture
        result = self._cross_faded(shape, texture, view)
        weight = view.shown(inner()) if view.placed else np.float32(1)
        result[..., :3] += weight * (picture - result[..., :3])
        return result

    def _places(
        self, texture: Weights, own: Sequence[mesh.Displacement], view: View
    ) -> dict[int, Places]:
        """Where each photo that has a weight lies in the view."""
        pull = view.pull() if view.placed else None
        return {
            number: self._photos[number].places(
                own[number], view, view.placed[number] if view.placed else None, pull
            )
            for number in np.flatnonzero(texture).tolist()
        }

    def _lacking_in_view(self, there: Mapping[int, Places], view: View) -> Values | None:
        """(h, w, P): what each photo does not have; None where they have all that is seen."""
        if not view.placed and all(face.lacking is None for face in self.faces):
            return None
        found = np.zeros((*view.size, len(self._photos)), np.float32)
        for number, places in there.items():
            found[..., number] = self._photos[number].lacking(places)
        return found if found.any() else None

    def _faded(
        self,
        gains: Values,
        shares: Values,
        texture: Weights,
        there: Mapping[int, Places],
        lacking: Values | None,
        view: View,
        coarse: Mapping[int, Values],
    ) -> Values:
        """The photos at ``there``, in sum, each times its ``gains`` (h, w, P).

        To the photo of a number comes its ``coarse`` (128, 128, 3). Opacity fades by ``shares``
        (h, w, P); what is not there gives no colour, and what is ``lacking`` is handed over.
        """
        kept: Values = np.ones((1, 1, len(texture)), np.float32)
        if lacking is not None:
            kept, taken = handed_over(shares, lacking, texture)
            gains, shares = kept * gains + taken, kept * shares + taken
        result = np.zeros((*view.size, self._photos[0].channels), np.float32)
        for number, places in there.items():
            photo = self._photos[number].seen(places, view)
            colours = gains[..., number, None] * photo[..., :3]
            if number in coarse:
                colours += kept[..., number, None] * view.shown(coarse[number])
            if photo.shape[2] == 4:
                colours *= photo[..., 3:]
                result[..., 3:] += shares[..., number, None] * photo[..., 3:]
            result[..., :3] += colours
        if result.shape[2] == 4:
            result[..., :3] /= np.maximum(result[..., 3:], 1e-3)
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


def _lacking_of_frame(face: Face) -> Values:
    """(S, S) in 0..1: what its photo does not have of the frame."""
    if face.lacking is not None:
        return face.lacking
    return lacking_in(face.to_frame, (face.photo.shape[0], face.photo.shape[1]), FRAME_SIZE)


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
