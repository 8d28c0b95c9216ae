"""The detectors that come with this program, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.detector_names import DetectorName
from facemorph_core.alignment.landmarks import DetectedFace, DlibDetector, LandmarkDetector
from facemorph_core.alignment.mediapipe import MediaPipeDetector

__all__ = ["EitherDetector", "detector_named", "name_of", "the_detector"]


class EitherDetector:
    """dlib's, and MediaPipe's for a photo in which dlib's finds no face, which is told as a doubt.

    Examples:
        >>> EitherDetector().detect(np.full((64, 64, 3), 127, np.uint8))
        []
    """

    name: DetectorName = "either"

    def __init__(self) -> None:
        self.first, self.second = DlibDetector(), MediaPipeDetector()

    @property
    def tried(self) -> str:
        return f"by dlib: {self.first.tried}; by MediaPipe: {self.second.tried}"

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        return self.first.detect(image) or _doubted(self.second.detect(image))

    def detect_first(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        return self.first.detect_first(image) or _doubted(self.second.detect_first(image))


def detector_named(name: DetectorName) -> LandmarkDetector:
    """A new one.

    Raises:
        ValueError: there is none of that name.

    Examples:
        >>> detector_named("mediapipe").name
        'mediapipe'
    """
    made: dict[DetectorName, Callable[[], LandmarkDetector]] = {
        "dlib": DlibDetector,
        "mediapipe": MediaPipeDetector,
        "either": EitherDetector,
    }
    if name not in made:
        raise ValueError(f"no detector '{name}': there are {', '.join(made)}")
    return made[name]()


def the_detector(given: LandmarkDetector | DetectorName | None) -> LandmarkDetector:
    """Itself, or the one of that name; None is dlib's."""
    if given is None or isinstance(given, str):
        return detector_named(given or "dlib")
    return given


def name_of(detector: LandmarkDetector) -> str | None:
    """What it is called, for records; None for one of somebody else that does not say it."""
    return getattr(detector, "name", None)


def _doubted(faces: list[DetectedFace]) -> list[DetectedFace]:
    said = "only MediaPipe's detector found this face: its landmarks lie a little otherwise"
    return [replace(face, doubts=(*face.doubts, said)) for face in faces]
