"""Scoring a model's reconstructions face by face, and what the scores say about all faces.

A *judge* looks at a batch of faces with their reconstructions and gives named columns of numbers,
one per face; NaN means that a face has no such score. Which judges there are, and the networks
that they may need, is the caller's choice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facemorph_core.machine.progress import Progress
from facemorph_core.metrics.bootstrap import Interval, interval_of_mean
from facemorph_core.metrics.hull import hull_masks
from facemorph_core.metrics.identity import VERIFIED_BELOW, Embedder, distances
from facemorph_core.metrics.psnr import psnr, psnr_hull
from facemorph_core.metrics.ssim import ssim, ssim_hull

__all__ = [
    "Columns",
    "FaceSet",
    "Judge",
    "Reconstruct",
    "Reconstructed",
    "identity_judge",
    "intervals",
    "other_photo",
    "psnr_judge",
    "score",
    "ssim_judge",
]

log = logging.getLogger(__name__)

BATCH = 32  # faces in memory at a time

Columns = dict[str, NDArray[np.float64]]
"""Name of a score -> one number per face."""


class FaceSet(Protocol):
    """What is needed of a shard."""

    @property
    def people(self) -> list[str]:
        """Whose face each row shows."""

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels (n, S, S, 3) of these rows."""

    def landmarks(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Landmarks (n, 68, 2) of these rows."""


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """Some faces of a shard and what the model made of them."""

    rows: NDArray[np.int64]
    originals: NDArray[np.uint8]
    made: NDArray[np.uint8]
    landmarks: NDArray[np.float32]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """The inside of each face."""
        return hull_masks(self.landmarks, self.originals.shape[1:3])


Judge = Callable[[Reconstructed], Columns]

Reconstruct = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.uint8]]
"""Faces in the frame (n, S, S, 3) and their landmarks (n, 68, 2) -> what a code keeps of them."""


def score(
    faces: FaceSet,
    rows: NDArray[np.int64],
    reconstruct: Reconstruct,
    judges: Sequence[Judge],
    *,
    progress: Progress | None = None,
) -> Columns:
    """Every judge's columns over ``rows``, in their order."""
    parts: list[Columns] = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        originals, landmarks = faces.images(batch), faces.landmarks(batch)
        seen = Reconstructed(batch, originals, reconstruct(originals, landmarks), landmarks)
        parts.append({name: column for judge in judges for name, column in judge(seen).items()})
        if progress is not None:
            progress(start + len(batch), len(rows))
    names = parts[0] if parts else ()
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def intervals(columns: Columns, people: Sequence[str]) -> dict[str, Interval]:
    """Mean and interval of each column over the faces that have the score; without any, none."""
    owners = np.asarray(people)
    found = {}
    for name, column in columns.items():
        present = ~np.isnan(column)
        if not present.all() and not name.startswith("identity."):
            log.warning("%d faces have no %s and do not count", (~present).sum(), name)
        if present.any():
            found[name] = interval_of_mean(column[present], owners[present])
    return found


def other_photo(people: Sequence[str], rows: Iterable[int]) -> dict[int, int]:
    """For each of ``rows`` the next photo among them of the same person; no entry if alone.

    >>> other_photo(["anna", "ben", "anna", "anna"], [0, 1, 2, 3])
    {0: 2, 2: 3, 3: 0}
    """
    of_person: dict[str, list[int]] = {}
    for row in rows:
        of_person.setdefault(people[row], []).append(int(row))
    pairs: dict[int, int] = {}
    for photos in of_person.values():
        if len(photos) > 1:
            pairs.update(zip(photos, [*photos[1:], photos[0]], strict=True))
    return pairs


# --- judges ----------------------------------------------------------------------------------


def psnr_judge(seen: Reconstructed) -> Columns:
    """PSNR in dB, of the frame and inside the hull."""
    return {
        "psnr": psnr(seen.originals, seen.made),
        "psnr_hull": psnr_hull(seen.originals, seen.made, seen.masks),
    }


def ssim_judge(seen: Reconstructed) -> Columns:
    """SSIM, of the frame and inside the hull."""
    return {
        "ssim": ssim(seen.originals, seen.made),
        "ssim_hull": ssim_hull(seen.originals, seen.made, seen.masks),
    }


def identity_judge(faces: FaceSet, others: Mapping[int, int], embedder: Embedder) -> Judge:
    """Whether dlib takes the reconstruction for the person, as 0 and 1.

    ``same_photo`` compares with the photo that was reconstructed, ``different_photo`` with
    another one of the person (``others``: row -> row), and ``real_photos`` these two photos with
    each other: what a perfect reconstruction would reach. ``distance`` is that to the same photo.
    """

    def judge(seen: Reconstructed) -> Columns:
        original = embedder.embed(seen.originals, seen.landmarks)
        made = embedder.embed(seen.made, seen.landmarks)
        paired = np.array([int(row) in others for row in seen.rows], np.bool_)
        partners = np.array([others[int(row)] for row in seen.rows[paired]], np.int64)
        other = np.full_like(original, np.nan)
        other[paired] = embedder.embed(faces.images(partners), faces.landmarks(partners))
        distance = distances(made, original)
        return {
            "identity.same_photo": _verified(distance),
            "identity.different_photo": _verified(distances(made, other)),
            "identity.real_photos": _verified(distances(original, other)),
            "identity.distance": distance,
        }

    return judge


def _verified(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(distance), np.nan, distance < VERIFIED_BELOW)
