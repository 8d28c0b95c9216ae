"""A morph whose frames are made one at a time, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.align import AlignedFace
from facemorph_core.machine.progress import Progress
from facemorph_core.machine.threads import in_turn, threads_at_most
from facemorph_core.morphing.opacity import clear
from facemorph_core.morphing.provenance import MorphProvenance
from facemorph_core.morphing.sequence import MorphSequence, film_of, held_at
from facemorph_core.morphing.transition import Transition
from facemorph_core.pictures.formats import FPS, HOLD
from facemorph_core.pictures.media import write_film
from facemorph_core.pictures.outputs import Outcome, Output, Saved, check_output, check_room
from facemorph_core.pictures.sides import Frame

__all__ = ["MorphFilm", "Place"]

Place = tuple[int, float]
"""Between which faces (0: the first and the second), and how far."""

BYTES_A_PIXEL = 180
"""Of memory that making a frame takes, at most, whole photos in every mode; measured."""
REMEMBERED = 2**28
"""Bytes of frames that the way back need not make again."""


@dataclass(frozen=True, eq=False)
class MorphFilm:
    """Where the frames of a morph lie, and how each is made when it is asked for.

    Examples:
        >>> from facemorph_core.morphing.engine import Morpher
        >>> morpher = Morpher(mode="landmark", size=64)
        >>> faces = morpher.faces(list(morpher.bundle.decode(np.array([[0.0] * 128, [0.5] * 128]))))
        >>> film = morpher.film(faces, steps=3)
        >>> [frame.shape for frame in film.frames()], film.boomerang().alphas.tolist()
        ([(64, 64, 3), (64, 64, 3), (64, 64, 3)], [0.0, 0.5, 1.0, 0.5])
        >>> [path.name for path in film.save("anna-ben.webp")]
        ['anna-ben.webp']
    """

    places: tuple[Place, ...]
    way: Callable[[int], Transition]
    """From the face of a number to the next."""
    shape: tuple[int, int, int]
    """Of each frame, (h, w, C)."""
    faces: tuple[AlignedFace, ...]
    provenance: MorphProvenance
    photos: tuple[Path, ...] = ()
    """The files that the faces are from, as far as they are from files."""
    there_and_back: bool = False

    def __len__(self) -> int:
        return len(self._order)

    @property
    def alphas(self) -> NDArray[np.float64]:
        """(n,) 0 at the first face, 1 at the second, and so on."""
        there = np.array([leg + alpha for leg, alpha in self.places])
        return there[self._order]

    @property
    def held(self) -> NDArray[np.intp]:
        """The frames that show one of the faces: players rest on them."""
        return held_at(self.alphas)

    def boomerang(self) -> MorphFilm:
        """There and back again; the ends come once, so that it can be repeated."""
        return replace(self, there_and_back=True)

    def frames(self, progress: Progress | None = None) -> Iterator[Frame]:
        """Each (h, w, 3 or 4), in order; ``progress`` is told (done, total)."""
        for number, frame in enumerate(self._frames(), start=1):
            if progress:
                progress(number, len(self))
            yield frame

    def sequence(self, progress: Progress | None = None) -> MorphSequence:
        """All frames at once, as an array."""
        return MorphSequence(
            frames=np.stack(list(self.frames(progress))),
            alphas=self.alphas,
            faces=self.faces,
            provenance=self.provenance,
            photos=self.photos,
        )

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
        """Write the frames as they are made; the rest is as in `MorphSequence.save`."""
        output = Output(out)
        check_output(output, force=force, count=len(self), inputs=self.photos)
        saved = Saved(fps=fps, hold=hold, size=size, force=force)
        [outcome] = self.save_all([output], saved, provenance=provenance)
        return outcome.written()

    def save_all(
        self,
        outputs: Sequence[Output],
        saved: Saved,
        *,
        provenance: bool = True,
        progress: Progress | None = None,
    ) -> list[Outcome]:
        """Write all ``outputs``, which were checked, from frames that are made once.

        Raises:
            OutputError: there is no room for it, and nothing was begun.
        """
        film = film_of(self, partial(self.frames, progress), self.shape)
        check_room(film, outputs, size=saved.size, making=self._memory())
        return write_film(film, outputs, saved, self.provenance if provenance else None)

    @property
    def _order(self) -> list[int]:
        there = range(len(self.places))
        return [*there, *there[-2:0:-1]] if self.there_and_back else [*there]

    def _frames(self) -> Iterator[Frame]:
        back = self.places[-2:0:-1] if self.there_and_back else ()
        known: list[Frame] = []
        fits = len(back) * int(np.prod(self.shape)) <= REMEMBERED
        for frame in in_turn(self._jobs(self.places)):
            if back and fits:
                known.append(frame)
            yield frame
        yield from known[-2:0:-1] if fits else in_turn(self._jobs(back))

    def _jobs(self, places: Sequence[Place]) -> Iterator[Callable[[], Frame]]:
        way = lru_cache(maxsize=1)(self.way)  # taken apart when its turn has come
        for leg, alpha in places:
            yield partial(self._frame, way(leg), alpha)

    def _frame(self, way: Transition, alpha: float) -> Frame:
        """With opacity, if any of the morph's photos has it."""
        frame = way.frame(alpha)
        return clear(frame) if self.shape[2] == 4 else frame

    def _memory(self) -> int:
        height, width, channels = self.shape
        at_a_time = min(threads_at_most(), len(self.places))
        return at_a_time * height * width * (BYTES_A_PIXEL + 2 * channels)
