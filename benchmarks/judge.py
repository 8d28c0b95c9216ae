"""All figures of one method: its reconstructions face by face, and its faces as a set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.method import Method
from benchmarks.sets import Distance, SetJudge
from facemorph_core.evaluation.reconstructions import (
    Columns,
    FaceSet,
    Judge,
    Reconstructed,
    identity_judge,
    other_photo,
    psnr_judge,
    score,
    ssim_judge,
)
from facemorph_core.learning.nets.lpips import LPIPS, load_lpips, lpips
from facemorph_core.machine.cores import available_cores
from facemorph_core.machine.progress import Progress
from facemorph_core.metrics.identity import Embedder, FaceEmbedder, embedding_weights

__all__ = [
    "Judges",
    "Remembering",
    "Scores",
    "Watch",
    "judge",
    "lpips_judge",
    "person_judge",
    "picture_judges",
]

GREY = 127
"""What stands outside the hull in both pictures when LPIPS looks at the inside alone."""

Watch = Callable[[str, float, float], None]
"""Told of (what is going on, how much is done, how much there is)."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the judges say of one method."""

    columns: Columns
    """One number per face, in the order of the rows."""
    distances: dict[str, Distance]
    """Such as "fd.samples"; empty where the sets were not judged."""


@dataclass(frozen=True, slots=True)
class Judges:
    """Who judges: each face, and the sets."""

    faces: Sequence[Judge]
    sets: SetJudge | None = None


def judge(
    method: Method,
    faces: FaceSet,
    rows: NDArray[np.int64],
    judges: Judges,
    *,
    watch: Watch | None = None,
) -> Scores:
    """Score a method on ``rows``; each face is encoded once."""

    def told(what: str) -> Progress | None:
        return None if watch is None else lambda done, total: watch(what, done, total)

    kept: list[NDArray[np.float32]] = []

    def reconstruct(pixels: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
        kept.append(method.encode(pixels, landmarks))
        return method.decode(kept[-1])

    columns = score(faces, rows, reconstruct, judges.faces, progress=told("judging its faces"))
    if judges.sets is None:
        return Scores(columns, {})
    codes = np.concatenate(kept)
    progress = told("judging its sets")
    return Scores(columns, judges.sets.distances(method, codes, progress=progress))


def picture_judges() -> list[Judge]:
    """PSNR, SSIM and LPIPS, each of the frame and of the hull.

    Raises:
        WeightsUnavailable: LPIPS's weights are not here; the hint is the command.
        MissingExtra: a package is not here.
    """
    return [psnr_judge, ssim_judge, lpips_judge(load_lpips())]


def person_judge(faces: FaceSet, rows: NDArray[np.int64]) -> Judge:
    """Whether dlib verifies what is made of a face as the person.

    Raises:
        WeightsUnavailable: dlib's embedding is not here; the hint is the command.
    """
    embedder = Remembering(FaceEmbedder(embedding_weights(), workers=available_cores()))
    return identity_judge(faces, other_photo(faces.people, rows.tolist()), embedder)


def lpips_judge(network: LPIPS) -> Judge:
    """LPIPS of the frame, and with everything outside the hull at GREY in both pictures."""

    def judge_faces(seen: Reconstructed) -> Columns:
        inside = seen.masks[..., None]
        original, made = (
            np.where(inside, pixels, np.uint8(GREY)) for pixels in (seen.originals, seen.made)
        )
        return {
            "lpips": lpips(network, seen.originals, seen.made),
            "lpips_hull": lpips(network, original, made),
        }

    return judge_faces


@dataclass(frozen=True, eq=False)
class Remembering:
    """An embedder that looks at the same face once: photos come again with every method."""

    embedder: Embedder
    _known: dict[bytes, NDArray[np.float64]] = field(default_factory=dict)

    def embed(self, faces: NDArray[np.uint8], landmarks: NDArray[Any]) -> NDArray[np.float64]:
        """Embeddings (n, d) of faces (n, S, S, 3) read at landmarks (n, 68, 2)."""
        keys = [_key(face, points) for face, points in zip(faces, landmarks, strict=True)]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        found = self.embedder.embed(faces[new], landmarks[new])
        self._known.update(zip((keys[place] for place in new), found, strict=True))
        return np.array([self._known[key] for key in keys]).reshape(len(faces), found.shape[1])


def _key(face: NDArray[np.uint8], points: NDArray[Any]) -> bytes:
    return hashlib.blake2b(face.tobytes() + points.tobytes(), digest_size=16).digest()
