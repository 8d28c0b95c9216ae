"""What each detector makes of each picture, and what follows from it.

A face is found where its eyes are known to be, to a quarter of their distance; where nothing is
known of a picture, any face counts. Distances are in percent of that between the eyes. Seconds are
those of one core, as the process counts them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.photos import Picture, Sets, without_a_face
from facemorph_core.alignment.doubts import turn_of
from facemorph_core.alignment.frame import eye_centres
from facemorph_core.alignment.geometry import Points, apply_affine, invert_affine
from facemorph_core.alignment.landmarks import DetectedFace, LandmarkDetector, QuickDetector
from facemorph_core.alignment.search import CLEAR
from facemorph_core.evaluation.groups import VALUES, thirds
from facemorph_core.machine.progress import Progress
from facemorph_core.metrics.bootstrap import Interval, interval_of_mean

__all__ = [
    "JAW",
    "Seen",
    "SetScores",
    "by_trait",
    "false_faces",
    "look_at",
    "scores_of",
]

NEAR = 0.25  # of the distance of the eyes
UPRIGHT = 10.0  # degrees
JAW = 17
TRAITS = ("Male", "Young", "Eyeglasses", "Wearing_Hat", "Bangs", "Blurry")
CLOCK: Callable[[], float] = time.process_time


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A picture and what a detector made of it."""

    picture: Picture
    face: DetectedFace | None
    """The first of the image."""
    seconds: float
    luma: float
    """Mean of the picture's middle, 0 to 255: face and light."""

    @property
    def is_found(self) -> bool:
        if self.face is None or self.picture.eyes is None:
            return self.face is not None
        away = np.linalg.norm(eye_centres(self.face.landmarks) - self.picture.eyes, axis=1)
        return bool(away.max() <= NEAR * math.dist(*self.picture.eyes.tolist()))

    @property
    def in_photo(self) -> Points:
        """The landmarks where the photo itself has them."""
        assert self.face is not None
        way = self.picture.way
        return (
            self.face.landmarks
            if way is None
            else apply_affine(invert_affine(way), self.face.landmarks)
        )


@dataclass(frozen=True, slots=True)
class SetScores:
    """Of one detector on one set; None where nothing is known."""

    pictures: int
    found: Interval
    to_dlib: Interval | None
    """Mean distance from dlib's landmarks, where these are clear and upright."""
    jaw_to_dlib: Interval | None
    to_own: Interval | None
    """From its own landmarks in the photo that the picture was made of."""
    eyes_scatter: Interval | None
    """Of the eye centres around their mean place, annotated eyes being at one place."""
    seconds: float


def look_at(
    sets: Sets,
    detector: LandmarkDetector,
    scene: NDArray[np.uint8],
    *,
    progress: Progress | None = None,
) -> dict[str, list[Seen]]:
    """Each picture once."""
    total, done = sum(map(len, sets.values())), 0
    found: dict[str, list[Seen]] = {}
    for name, pictures in sets.items():
        found[name] = []
        for picture in pictures:
            has_scene = picture.way is not None and picture.size == scene.shape[:2]
            found[name].append(_seen(picture, detector, scene if has_scene else None))
            done += 1
            if progress is not None:
                progress(done, total)
    return found


def _seen(picture: Picture, detector: LandmarkDetector, scene: NDArray[np.uint8] | None) -> Seen:
    pixels = picture.pixels(scene)
    look = detector.detect_first if isinstance(detector, QuickDetector) else detector.detect
    started = CLOCK()
    faces = look(pixels)
    seconds = CLOCK() - started
    h, w = pixels.shape[:2]
    middle = pixels[h // 3 : 2 * h // 3, w // 3 : 2 * w // 3]
    luma = float((middle @ np.array([0.299, 0.587, 0.114])).mean())
    return Seen(picture, faces[0] if faces else None, seconds, luma)


def scores_of(
    seen: Sequence[Seen], dlibs: Mapping[str, Seen], own: Mapping[str, Seen]
) -> SetScores:
    """``dlibs`` and ``own``: a photo's name -> what dlib and this detector made of it plain."""
    people = [each.picture.person for each in seen]
    found = [each for each in seen if each.is_found]
    clear = [each for each in found if _is_clear(dlibs.get(each.picture.name))]
    made = [
        each for each in found if each.picture.way is not None and own[each.picture.name].is_found
    ]
    is_plain = seen[0].picture.eyes is not None and seen[0].picture.way is None
    return SetScores(
        pictures=len(seen),
        found=interval_of_mean([100.0 * each.is_found for each in seen], people),
        to_dlib=_mean_distance(clear, dlibs, slice(JAW, None)),
        jaw_to_dlib=_mean_distance(clear, dlibs, slice(JAW)),
        to_own=_mean_distance(made, own, slice(None)),
        eyes_scatter=_scatter(found) if is_plain else None,
        seconds=float(np.mean([each.seconds for each in seen])),
    )


def _is_clear(seen: Seen | None) -> bool:
    if seen is None or seen.face is None or not seen.is_found:
        return False
    return seen.face.score >= CLEAR and abs(turn_of(seen.face.landmarks)) <= UPRIGHT


def _mean_distance(
    seen: Sequence[Seen], others: Mapping[str, Seen], part: slice
) -> Interval | None:
    if not seen:
        return None
    values = []
    for each in seen:
        there = others[each.picture.name].in_photo
        away = np.linalg.norm(each.in_photo[part] - there[part], axis=1).mean()
        values.append(100 * away / math.dist(*eye_centres(there).tolist()))
    return interval_of_mean(values, [each.picture.person for each in seen])


def _scatter(seen: Sequence[Seen]) -> Interval:
    eyes = np.stack([eye_centres(each.in_photo) for each in seen])
    known = seen[0].picture.eyes
    assert known is not None
    away = np.linalg.norm(eyes - eyes.mean(axis=0), axis=2).mean(axis=1)
    values = 100 * away / math.dist(*known.tolist())
    return interval_of_mean(values, [each.picture.person for each in seen])


def by_trait(seen: Sequence[Seen]) -> dict[str, dict[str, tuple[int, Interval]]]:
    """Trait -> group -> how many pictures, and the percentage in which no face was found."""
    people = np.array([each.picture.person for each in seen])
    missed = np.array([100.0 * (not each.is_found) for each in seen])
    masks = {trait: _groups(seen, trait) for trait in TRAITS}
    masks["Brightness"] = thirds(np.array([each.luma for each in seen]))
    return {
        trait: {
            name: (int(mask.sum()), interval_of_mean(missed[mask], people[mask]))
            for name, mask in groups.items()
        }
        for trait, groups in masks.items()
    }


def _groups(seen: Sequence[Seen], trait: str) -> dict[str, NDArray[np.bool_]]:
    column = np.array([each.picture.attributes.get(trait, 0) for each in seen])
    masks = {name: column == value for name, value in VALUES.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def false_faces(detector: LandmarkDetector) -> tuple[list[str], int]:
    """Which pictures without a face have one, and of how many."""
    pictures = list(without_a_face())
    return [name for name, pixels in pictures if detector.detect(pixels)], len(pictures)
