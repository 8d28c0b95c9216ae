"""The frames of a morph, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.align import AlignedFace
from facemorph_core.morphing.choices import Mode
from facemorph_core.morphing.media import FPS, HOLD, write_frames

__all__ = ["MorphSequence"]


@dataclass(frozen=True)
class MorphSequence:
    """The frames of a morph and what they came from."""

    frames: NDArray[np.uint8]
    """(n, S, S, 3) RGB."""
    alphas: NDArray[np.float64]
    """(n,) 0 at the first face, 1 at the second, and so on."""
    faces: tuple[AlignedFace, ...]
    mode: Mode
    model: str
    model_sha256: str

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def held(self) -> NDArray[np.intp]:
        """The frames that show one of the faces: players rest on them."""
        return np.flatnonzero(self.alphas == np.rint(self.alphas))

    def boomerang(self) -> MorphSequence:
        """There and back again; the ends come once, so that it can be repeated."""
        order = [*range(len(self)), *range(len(self) - 2, 0, -1)]
        return MorphSequence(
            self.frames[order],
            self.alphas[order],
            self.faces,
            self.mode,
            self.model,
            self.model_sha256,
        )

    def save(
        self,
        out: Path | str,
        *,
        fps: float = FPS,
        hold: float = HOLD,
        size: int | None = None,
        force: bool = False,
    ) -> list[Path]:
        """Write the frames as ``out`` says by its name, see `media.write_frames`."""
        return write_frames(
            self.frames,
            out,
            fps=fps,
            hold=hold,
            size=size,
            force=force,
            held=self.held.tolist(),
            ends=(self.faces[0].pixels, self.faces[-1].pixels),
            labels=[f"{alpha:.2f}" for alpha in self.alphas],
        )
