"""Faces by weight: their average, or a grid of pictures between four of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.align import AlignedFace
from facemorph_core.disk.output import check_writable, written_whole
from facemorph_core.errors import OutputError
from facemorph_core.morphing.provenance import MorphProvenance
from facemorph_core.pictures.encoders import write_picture
from facemorph_core.pictures.formats import PICTURE_SUFFIXES

__all__ = ["MorphBlend", "check_picture", "corner_weights"]

GAP = 2
"""White pixels between the pictures of a grid."""


@dataclass(frozen=True)
class MorphBlend:
    """Pictures of the same faces in different weights.

    Examples:
        >>> from facemorph_core.morphing.engine import Morpher
        >>> morpher = Morpher(mode="latent", size=32)
        >>> faces = morpher.faces(list(morpher.bundle.decode(np.zeros((4, 128)))))
        >>> blend = morpher.blend(faces, corner_weights(3))
        >>> blend.frames.shape, blend.picture(columns=3).shape  # with gaps of 2 pixels
        ((9, 32, 32, 3), (100, 100, 3))
    """

    frames: NDArray[np.uint8]
    """(n, h, w, 3) RGB or (n, h, w, 4) RGBA."""
    weights: NDArray[np.float64]
    """(n, P) of the P faces; each row has a sum of 1."""
    faces: tuple[AlignedFace, ...]
    provenance: MorphProvenance
    photos: tuple[Path, ...] = ()
    """The files that the faces are from, as far as they are from files."""

    def picture(self, columns: int = 1) -> NDArray[np.uint8]:
        """All pictures in one, (H, W, 3 or 4), row by row."""
        gap = ((0, 0), (0, GAP), (0, GAP), (0, 0))
        tiles = np.pad(self.frames, gap, constant_values=255)
        rows = [
            np.concatenate(list(row), axis=1)
            for row in tiles.reshape(-1, columns, *tiles.shape[1:])
        ]
        return np.concatenate(rows)[:-GAP, :-GAP]

    def save(
        self, out: Path | str, *, columns: int = 1, force: bool = False, provenance: bool = True
    ) -> Path:
        """Write one picture, as ``out`` says by its suffix.

        Without ``provenance`` the file does not say that it is synthetic.

        Raises:
            OutputError: another suffix, a file that exists (without ``force``), one of the
                photos, or no room.
        """
        path = Path(out)
        check_picture(path, force=force, inputs=self.photos)
        note = self.provenance.note(weights=self.weights.tolist()) if provenance else None
        with written_whole(path, force=force) as temporary:
            write_picture(Image.fromarray(self.picture(columns)), temporary, note)
        return path


def check_picture(path: Path, *, force: bool = False, inputs: Sequence[Path] = ()) -> None:
    """Refuse ``path`` before any work for what `MorphBlend.save` would refuse it for after."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise OutputError(f"{path}: its suffix is none of {', '.join(PICTURE_SUFFIXES)}")
    check_writable(path, force=force, inputs=inputs)


def corner_weights(side: int) -> NDArray[np.float64]:
    """(side * side, 4): bilinear weights of the faces in a square's corners, row by row.

    The faces are those at the top left, top right, bottom left and bottom right.
    """
    if side < 2:
        raise ValueError(f"a grid has at least its four corners, so side >= 2 (got {side})")
    along = np.linspace(0, 1, side)
    down, across = (each.ravel() for each in np.meshgrid(along, along, indexing="ij"))
    return np.stack(
        [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], axis=1
    )
