"""Where the faces are: a small protocol, and dlib behind it.

Landmarks are the 68 points of iBUG 300-W in dlib's order, (x, y) pixels of the image.

Terms: dlib's 68-point weights were trained on iBUG 300-W, whose licence excludes commercial use.
Another detector can be passed wherever a `LandmarkDetector` is asked for.

References:
    | Max-margin object detection (King, 2015), with HOG features
    | One millisecond face alignment with an ensemble of regression trees (Kazemi & Sullivan, 2014)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.dlib_files import LOCK, detector
from facemorph_core.alignment.doubts import is_a_face, turn_of
from facemorph_core.alignment.geometry import Points
from facemorph_core.alignment.placing import place, placed, steadied
from facemorph_core.alignment.search import (
    CLEAR,
    LEAST_TURNED,
    Box,
    Sight,
    merged,
    nearer_sight,
    ranked,
    turned_sights,
    upright_sights,
    weight_of,
)

__all__ = ["Box", "DetectedFace", "DlibDetector", "LandmarkDetector", "QuickDetector"]


@dataclass(frozen=True, slots=True, eq=False)
class DetectedFace:
    """One face of an image.

    Examples:
        What a detector of one's own says of an image that was aligned before:

        >>> from facemorph_core.alignment import mean_shape
        >>> face = DetectedFace(mean_shape(), box=(0, 0, 128, 128), score=1.0)
        >>> face.landmarks.shape
        (68, 2)
    """

    landmarks: Points
    """(68, 2), (x, y) pixels of the image; may lie outside it where a face is cut."""
    box: Box
    """Left, top, right, bottom, pixels of the image."""
    score: float
    """How sure the detector is; about 1 to 3 for a clear face."""
    doubts: tuple[str, ...] = ()
    """What speaks against it: see `alignment.doubts`."""

    @property
    def weight(self) -> float:
        """See `search.weight_of`."""
        return weight_of(self.box, self.score)


@runtime_checkable
class LandmarkDetector(Protocol):
    """Anything that finds faces and their 68 landmarks; threads may ask it at the same time.

    Examples:
        A detector for images that were aligned before: one face, where the frame has it.

        >>> from facemorph_core.alignment import mean_shape
        >>> class Aligned:
        ...     tried = "the frame alone"
        ...     def detect(self, image):
        ...         side = float(len(image))
        ...         return [DetectedFace(mean_shape(len(image)), (0.0, 0.0, side, side), 1.0)]
        >>> isinstance(Aligned(), LandmarkDetector)
        True
    """

    @property
    def tried(self) -> str:
        """What `detect` does before it gives up, for the message of NoFaceFound."""
        ...

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """All faces of an (H, W, 3) RGB image, the one that is meant first; empty if none."""
        ...


@runtime_checkable
class QuickDetector(LandmarkDetector, Protocol):
    """One that is quicker where the first face is meant."""

    def detect_first(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """As `detect`, but smaller faces than the first may be missing."""
        ...


class DlibDetector:
    """dlib's frontal HOG detector and 68-point predictor.

    It knows faces of 80 pixels and more, up to some 20 degrees from upright. An image is searched
    with its longer side at ``search_side`` pixels, or as it is if it is smaller, then at its full
    size (up to FULL_SIDE) or twice it, which finds the small ones; if nothing was found, at three
    times with its border continued, which also finds faces that fill or leave a small photo. If no
    face is clear, the image is turned in steps of 45 degrees; if there is none at all, shadows are
    lifted. Faces come by size and certainty together; landmarks that are no face's are left out.
    They are placed on a crop of each face at one fixed scale, upright: dlib rounds them to whole
    pixels, which would cost precision on a small face.
    """

    name = "dlib"

    def __init__(self, *, search_side: int = 640) -> None:
        self.search_side = search_side

    @property
    def tried(self) -> str:
        return (
            f"its own size up to {FULL_SIDE} pixels, enlarged 2x, 3x with a wider border, "
            "turned in steps of 45 degrees, and with shadows lifted"
        )

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        return self._detected(image, enough=False)

    def detect_first(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        return self._detected(image, enough=True)

    def find(self, image: NDArray[np.uint8]) -> list[tuple[Box, float]]:
        """Boxes and scores of the upright faces, without landmarks."""
        found = self._upright(image, enough=True)
        return [(sight.box, sight.score) for sight in ranked(found)]

    def place(self, image: NDArray[np.uint8], box: Box) -> Points:
        """The 68 landmarks of the upright face in ``box``."""
        return place(image, box)

    def _detected(self, image: NDArray[np.uint8], *, enough: bool) -> list[DetectedFace]:
        upright, own = self._upright(image, enough=enough), self._own_scale(image)
        seen = dict(_settled(image, sight) for sight in upright)
        if all(sight.score < CLEAR for sight in seen):
            seen |= _turned_faces(image, own, more_than=max((s.score for s in seen), default=0))
        if not seen:
            seen = _turned_faces(image, 2 * own)
        if not seen:
            closely = upright_sights(image, _look_closely, [own, 1.5 * own, 2 * own])
            seen = dict(_settled(image, sight) for sight in closely)
        faces = []
        for sight in ranked(merged(list(seen))):
            points = seen[sight]
            if not _is_plain(sight, points, own):
                points = steadied(image, points)
            if is_a_face(points):
                faces.append(DetectedFace(points, sight.box, sight.score))
        return faces

    def _upright(self, image: NDArray[np.uint8], *, enough: bool) -> list[Sight]:
        """From quick to thorough; the last attempt, which costs most, only if nothing was found."""
        longest, own = max(image.shape[:2]), self._own_scale(image)
        scales = (own, max(2 * own, min(1.0, FULL_SIDE / longest)))
        found = upright_sights(image, _look, scales, enough=enough)
        wider = min(3 * own, 2 * self.search_side / longest)
        return found or upright_sights(image, _look, [wider], border=_BORDER)

    def _own_scale(self, image: NDArray[np.uint8]) -> float:
        return min(1.0, self.search_side / max(image.shape[:2]))


_BORDER = 100  # pixels around an image whose face fills or leaves it
FULL_SIDE = 4096
"""Longer side, pixels, up to which an image is searched as it is: 12 megapixels take a second."""
FAINT, LIFTED = -0.2, 0.5
"""Where nothing else was found: the least score, and the power that shadows are lifted by. Faces in
the dark and open mouths have such scores; pictures without a face were seen to reach -.27."""
SEEN_TURNED = 0.2
"""A face that is 22 degrees from upright has this much, and more once it is looked at upright."""
SURER = 0.5
"""So much more score than what was found upright has a face that is turned: an upright one of a low
score is seen in turned pictures, too."""
MOST_TURNED = 10.0
"""Degrees from upright beyond which a face is looked at again, upright."""


def _look(image: NDArray[np.uint8], *, at_least: float = 0.0) -> list[tuple[Box, float]]:
    with LOCK:
        boxes, scores, _ = detector().run(np.ascontiguousarray(image), 0, at_least)
    edges = ((box.left(), box.top(), box.right() + 1, box.bottom() + 1) for box in boxes)
    return list(zip(edges, map(float, scores), strict=True))


def _look_closely(image: NDArray[np.uint8]) -> list[tuple[Box, float]]:
    """As `_look`, with shadows lifted, and at what it is less than sure of."""
    lifted = (255 * (image / 255) ** LIFTED).astype(np.uint8)
    return _look(lifted, at_least=FAINT)


def _turned_faces(
    image: NDArray[np.uint8], scale: float, *, more_than: float = 0.0
) -> dict[Sight, Points]:
    """What is a face for sure once it is looked at upright, surer than what is so already."""
    found = merged(turned_sights(image, _look, scale))
    settled = (_settled(image, sight) for sight in found if sight.score >= SEEN_TURNED)
    least = max(LEAST_TURNED, more_than + SURER)
    return {sight: points for sight, points in settled if sight.score >= least}


def _settled(image: NDArray[np.uint8], sight: Sight) -> tuple[Sight, Points]:
    """The sight, or a surer one of the same face from where it is upright, and its landmarks."""
    points = placed(image, sight)
    for _ in range(2):
        turn = turn_of(points)
        if abs((turn - sight.turn + 180) % 360 - 180) <= MOST_TURNED:
            break
        nearer = nearer_sight(image, _look, sight, turn)
        if nearer is None or nearer.certainty < sight.certainty:
            break
        sight, points = nearer, placed(image, nearer)
    return sight, points


def _is_plain(sight: Sight, points: Points, own: float) -> bool:
    """Whether it was clear and upright at first sight: its box lies well."""
    is_clear = sight.score >= CLEAR and sight.scale == own
    return is_clear and not sight.turn and abs(turn_of(points)) <= MOST_TURNED
