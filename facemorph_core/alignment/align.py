"""A photo -> a face in the canonical frame, and the exact way back.

The photo is mapped by one similarity, the least-squares fit of its 68 landmarks to the mean shape:
proportions are kept and a face is never mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.doubts import doubts_about
from facemorph_core.alignment.frame import FRAME_SIZE, mean_shape
from facemorph_core.alignment.geometry import (
    Affine,
    Points,
    apply_affine,
    compose_affine,
    fit_similarity,
    invert_affine,
    rescaling,
    similarity,
)
from facemorph_core.alignment.given import Eyes, GivenLandmarks, face_given
from facemorph_core.alignment.landmarks import (
    DetectedFace,
    DlibDetector,
    LandmarkDetector,
    QuickDetector,
)
from facemorph_core.alignment.photo import load_photo
from facemorph_core.alignment.resample import Beyond, resample
from facemorph_core.errors import AmbiguousFace, NoFaceFound, PhotoError

__all__ = [
    "AlignedFace",
    "FaceChoice",
    "align_face",
    "align_photo",
    "choose_face",
    "face_choice",
    "to_photo",
]

FaceChoice = int | Literal["largest", "only"] | Eyes | GivenLandmarks
"""A number (1 is the largest face of the photo), or "largest", or "only": refuse several; or where
the face is, and no detector is asked."""

_PIXELS = "places are x, y in pixels of the upright photo, from its upper left corner"
_SEEN_BETTER = "use a photo where the face looks at the camera, "
_SECOND = "let a second detector look (--detector either), "
_SAID = "or say where its eyes are: --eyes X,Y,X,Y"
_SOFT_EDGE = 12 / FRAME_SIZE  # of the frame's side, over which a pasted frame fades in


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    """A face in the frame, and where it came from."""

    pixels: NDArray[np.uint8]
    """(S, S, 3) RGB, S = 128 unless asked otherwise."""
    landmarks: Points
    """(68, 2), (x, y) pixels of the frame."""
    to_frame: Affine
    """Pixels of the photo -> pixels of the frame."""
    photo_size: tuple[int, int]
    """(h, w) of the photo."""

    @property
    def size(self) -> int:
        """Side of the frame, pixels."""
        return self.pixels.shape[0]


def align_face(
    image: NDArray[np.uint8],
    landmarks: Points,
    *,
    size: int = FRAME_SIZE,
    beyond: Beyond = "mirrored",
) -> AlignedFace:
    """Map the face with these landmarks into a frame of side ``size``.

    What the frame shows ``beyond`` the image is mirrored, as models were trained with, or blurred.
    """
    to_frame = fit_similarity(landmarks, mean_shape(size))
    return AlignedFace(
        pixels=resample(image, to_frame, size=(size, size), beyond=beyond),
        landmarks=apply_affine(to_frame, landmarks),
        to_frame=to_frame,
        photo_size=(image.shape[0], image.shape[1]),
    )


def align_photo(
    photo: str | Path | Image.Image | NDArray[np.uint8],
    detector: LandmarkDetector | None = None,
    *,
    face: FaceChoice = "largest",
    size: int = FRAME_SIZE,
    beyond: Beyond = "mirrored",
) -> AlignedFace:
    """Find a face in a photo and map it into the frame; ``photo`` may be (H, W, 3) RGB pixels.

    ``beyond`` is as in `align_face`; a morph shows blurs.

    Raises:
        UnreadablePhoto: as `load_photo`.
        NoFaceFound: with what was tried.
        AmbiguousFace: several faces and ``face="only"``, or no face of that number.
    """
    pixels = photo if isinstance(photo, np.ndarray) else load_photo(photo)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"an (H, W, 3) RGB image is needed, got {pixels.shape}")
    name = photo if isinstance(photo, (str, Path)) else "the image"
    found = choose_face(np.ascontiguousarray(pixels), detector or DlibDetector(), face, name=name)
    return align_face(pixels, found.landmarks, size=size, beyond=beyond)


def face_choice(text: str) -> FaceChoice:
    """Which face is meant, as people write it: a number, largest or only.

    Raises:
        ValueError: it is none of them.

    Examples:
        >>> face_choice("2"), face_choice("Only")
        (2, 'only')
    """
    match text.casefold():
        case "largest":
            return "largest"
        case "only":
            return "only"
        case number if number.isdecimal():
            return int(number)
    raise ValueError(f"'{text}' is neither a face number, 'largest' nor 'only'")


def choose_face(
    image: NDArray[np.uint8],
    detector: LandmarkDetector,
    face: FaceChoice = "largest",
    *,
    name: str | Path = "the image",
) -> DetectedFace:
    """The face that is meant, with what is doubtful about it.

    Raises:
        NoFaceFound, AmbiguousFace: as `align_photo`; the hint says how to name a face.
        PhotoError: no face can be where it is said to be.
    """
    if isinstance(face, (Eyes, GivenLandmarks)):
        try:
            return _doubted(face_given(image, face), (), image)
        except ValueError as error:
            raise PhotoError(name, str(error), hint=_PIXELS) from error
    if face == "largest" and isinstance(detector, QuickDetector):
        faces = detector.detect_first(image)
    else:
        faces = detector.detect(image)
    if not faces:
        raise NoFaceFound(
            name,
            f"no face found (tried {detector.tried})",
            hint=_SEEN_BETTER
            + (_SECOND if getattr(detector, "name", None) == "dlib" else "")
            + _SAID,
        )
    if face == "only" and len(faces) > 1:
        raise AmbiguousFace(name, f"has {len(faces)} faces", hint=_numbering(len(faces)))
    if not isinstance(face, int):
        return _doubted(faces[0], faces[1:], image)
    if not 1 <= face <= len(faces):
        reason = f"has no face {face}, only {len(faces)}"
        raise AmbiguousFace(name, reason, hint=_numbering(len(faces)))
    return _doubted(faces[face - 1], (), image)


def _doubted(
    face: DetectedFace, others: Sequence[DetectedFace], image: NDArray[np.uint8]
) -> DetectedFace:
    said = doubts_about(face, others, (image.shape[0], image.shape[1]))
    return replace(face, doubts=face.doubts + said)


def _numbering(count: int) -> str:
    return f"choose one by number, 1 (the largest) to {count}" if count > 1 else "it has number 1"


def to_photo(
    frame_image: NDArray[np.uint8], face: AlignedFace, photo: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The photo with ``frame_image`` in the place that ``face`` was taken from.

    The frame may be of any size S (its edges are the frame's edges). It fades in over a soft edge;
    outside the frame the photo is untouched. A new array.
    """
    if photo.shape[:2] != face.photo_size:
        raise ValueError(f"the face is of a photo of {face.photo_size}, not {photo.shape[:2]}")
    side = frame_image.shape[0]
    to_frame = compose_affine(rescaling(side / face.size), face.to_frame)
    result = photo.copy()
    left, top, right, bottom = _place_in_photo(to_frame, side, face.photo_size)
    if left >= right or top >= bottom:
        return result
    to_region = compose_affine(
        similarity(0.0, 1.0, (-float(left), -float(top))), invert_affine(to_frame)
    )
    pasted = resample(frame_image, to_region, size=(bottom - top, right - left))
    weight = _weight(to_frame, side, (left, top, right, bottom))[:, :, None]
    region = photo[top:bottom, left:right]
    result[top:bottom, left:right] = np.rint(region + weight * (pasted - region.astype(np.float32)))
    return result


def _place_in_photo(
    to_frame: Affine, side: int, photo_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of the frame in the photo, cut at its border."""
    low, high = -0.5, side - 0.5
    corners = np.array([[low, low], [high, low], [low, high], [high, high]])
    there = apply_affine(invert_affine(to_frame), corners)
    h, w = photo_size
    left, top = np.clip(np.ceil(there.min(axis=0)), 0, [w, h]).astype(int).tolist()
    right, bottom = np.clip(np.floor(there.max(axis=0)) + 1, 0, [w, h]).astype(int).tolist()
    return left, top, right, bottom


def _weight(to_frame: Affine, side: int, region: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """(h, w) in 0..1: 0 at and outside the frame's edge, 1 inside the soft edge."""
    left, top, right, bottom = region
    x, y = np.arange(left, right), np.arange(top, bottom)
    depth = np.full((len(y), len(x)), np.inf)
    for row in to_frame:  # u, then v of each pixel of the region
        position = row[0] * x[None, :] + row[1] * y[:, None] + row[2]
        depth = np.minimum(depth, np.minimum(position + 0.5, side - 0.5 - position))
    t = np.clip(depth / (_SOFT_EDGE * side), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)
