"""The frames of a morph, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.align import AlignedFace
from facemorph_core.morphing.provenance import MorphProvenance
from facemorph_core.pictures.formats import FPS, HOLD
from facemorph_core.pictures.media import write_film
from facemorph_core.pictures.outputs import Film, Output, Saved, check_output
from facemorph_core.pictures.sides import Frame

__all__ = ["MorphSequence", "film_of", "held_at"]


@dataclass(frozen=True)
class MorphSequence:
    """The frames of a morph and what they came from.

    Examples:
        >>> from facemorph_core.morphing.engine import Morpher
        >>> morpher = Morpher(mode="landmark", size=64)
        >>> faces = morpher.faces(list(morpher.bundle.decode(np.array([[0.0] * 128, [0.5] * 128]))))
        >>> there = morpher.sequence(faces, steps=3)
        >>> len(there), there.held.tolist(), there.boomerang().alphas.tolist()
        (3, [0, 2], [0.0, 0.5, 1.0, 0.5])
        >>> [path.name for path in there.save("anna-ben.gif")]
        ['anna-ben.gif']
    """

    frames: NDArray[np.uint8]
    """(n, h, w, 3) RGB or (n, h, w, 4) RGBA."""
    alphas: NDArray[np.float64]
    """(n,) 0 at the first face, 1 at the second, and so on."""
    faces: tuple[AlignedFace, ...]
    provenance: MorphProvenance
    photos: tuple[Path, ...] = ()
    """The files that the faces are from, as far as they are from files."""

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def held(self) -> NDArray[np.intp]:
        """The frames that show one of the faces: players rest on them."""
        return held_at(self.alphas)

    def boomerang(self) -> MorphSequence:
        """There and back again; the ends come once, so that it can be repeated."""
        order = [*range(len(self)), *range(len(self) - 2, 0, -1)]
        return replace(self, frames=self.frames[order], alphas=self.alphas[order])

    def save(
        self,
        out: Path | str,
        *,
        fps: float = FPS,
        hold: float = HOLD,
        size: int | None = None,
        force: bool = False,
        provenance: bool = True,
    ) -> list[Path]:
        """Write the frames as ``out`` says by its name, see `media.write_frames`.

        Args:
            out: .gif, .mp4, .webp, .mov, .webm, .avif, .apng, .png (a contact sheet), or a folder
                of PNG frames.
            fps: frames a second.
            hold: seconds on each photo.
            size: longer side, pixels; None: as the frames are.
            force: replace what exists.
            provenance: without it the files do not say that they are synthetic.

        Returns:
            What was written.

        Raises:
            OutputError: another suffix, a file that exists (without ``force``), one of the
                photos, nothing to write the format with, or no room.
        """
        output = Output(out)
        check_output(output, force=force, count=len(self), inputs=self.photos)
        _, height, width, channels = self.frames.shape
        film = film_of(self, lambda: self.frames, (height, width, channels))
        saved = Saved(fps=fps, hold=hold, size=size, force=force)
        [outcome] = write_film(film, [output], saved, self.provenance if provenance else None)
        return outcome.written()


class _Morph(Protocol):
    """What is known of a morph, whether its frames are there or not."""

    @property
    def alphas(self) -> NDArray[np.float64]: ...
    @property
    def faces(self) -> tuple[AlignedFace, ...]: ...
    @property
    def provenance(self) -> MorphProvenance: ...


def held_at(alphas: NDArray[np.float64]) -> NDArray[np.intp]:
    """The numbers of the frames that show one of the faces."""
    return np.flatnonzero(alphas == np.rint(alphas))


def film_of(
    morph: _Morph, frames: Callable[[], Iterable[Frame]], shape: tuple[int, int, int]
) -> Film:
    """What is to be written of a morph with these frames."""
    photos = morph.faces[0].pixels, morph.faces[-1].pixels
    drawn = morph.provenance.mode == "latent" and photos[0].shape[:2] == shape[:2]
    return Film(
        frames,
        shape,
        alphas=morph.alphas.tolist(),
        held=held_at(morph.alphas).tolist(),
        ends=photos if drawn else None,  # else the frames at the ends are the photos
    )
