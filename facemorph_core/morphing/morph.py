"""Whole morphs in one call: photos in, pictures out. `Morpher` has every setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from facemorph_core.alignment.align import FaceChoice
from facemorph_core.alignment.detector_names import DetectorName
from facemorph_core.alignment.detectors import the_detector
from facemorph_core.alignment.landmarks import LandmarkDetector
from facemorph_core.bundle.read import Bundle
from facemorph_core.latent.interpolations import Interpolation
from facemorph_core.morphing.blend import MorphBlend
from facemorph_core.morphing.choices import Compose, Ease, Mode
from facemorph_core.morphing.engine import Morpher, PhotoLike
from facemorph_core.morphing.sequence import MorphSequence
from facemorph_core.morphing.transition import DEFAULT_STEPS, alphas

__all__ = ["average", "generate_morph_sequence", "morph"]


def morph(
    photo_a: PhotoLike,
    photo_b: PhotoLike,
    *,
    steps: int = DEFAULT_STEPS,
    model: Bundle | Path | str | None = None,
    mode: Mode = "full",
    path: Interpolation = "lerp",
    ease: Ease = "linear",
    face: FaceChoice | tuple[FaceChoice, FaceChoice] = "largest",
    fit: int = 0,
    compose: Compose = "frame",
    size: int | None = None,
    detector: LandmarkDetector | DetectorName | None = None,
) -> MorphSequence:
    """Morph the face in ``photo_a`` into that in ``photo_b``.

    Args:
        photo_a: the first photo: a file, a picture, or (H, W, 3 or 4) uint8 RGB or RGBA.
        photo_b: the last one.
        steps: frames, both ends included; at least 2.
        model: as in `Morpher`, like all that is not named here.
        mode: which layers make a frame.
        path: how codes are interpolated.
        ease: how alphas are spaced.
        face: which of several faces: a number, 1 being the largest, or "largest", or "only", which
            refuses several; for both photos or for each.
        fit: steps that bring codes nearer to their faces.
        compose: the face in its frame, or whole photos.
        size: longer side of the frames, pixels.
        detector: what finds faces: one of one's own, or "mediapipe", or "either"; None
            is dlib's, see `alignment.detectors`.

    Returns:
        ``steps`` frames (n, h, w, 3 or 4) uint8 with their alphas from 0 to 1.

    Raises:
        PhotoError: a photo cannot be read or holds no such face.
        ModelError: there is no model, or it is damaged.
        ValueError: ``steps`` is below 2, or an array is no image.

    Examples:
        >>> drawn = Morpher().bundle.decode(np.array([[0.0] * 128, [0.5] * 128]))
        >>> morph(*drawn, steps=3, size=64).frames.shape
        (3, 64, 64, 3)
    """
    alphas(steps)
    morpher = Morpher(
        model, mode, compose, size, path, ease=ease, fit=fit, detector=the_detector(detector)
    )
    choices = face if isinstance(face, tuple) else (face, face)
    return morpher.sequence(morpher.faces((photo_a, photo_b), choices), steps=steps)


def generate_morph_sequence(
    img1_path: Path | str, img2_path: Path | str, steps: int = DEFAULT_STEPS
) -> list[Image.Image]:
    """The morph of two photo files as ``steps`` pictures, with the model at hand.

    Raises:
        PhotoError, ModelError, ValueError: as `morph`.

    Examples:
        >>> for name, code in (("anna.png", 0.0), ("ben.png", 0.5)):
        ...     drawn = Morpher().bundle.decode(np.full((1, 128), code))[0]
        ...     Image.fromarray(drawn).save(name)
        >>> [picture.size for picture in generate_morph_sequence("anna.png", "ben.png", steps=2)]
        [(256, 256), (256, 256)]
    """
    return [Image.fromarray(frame) for frame in morph(img1_path, img2_path, steps=steps).frames]


def average(
    photos: Sequence[PhotoLike],
    weights: Sequence[float] | None = None,
    *,
    model: Bundle | Path | str | None = None,
    mode: Mode = "full",
    fit: int = 0,
    compose: Compose = "frame",
    size: int | None = None,
    detector: LandmarkDetector | DetectorName | None = None,
) -> MorphBlend:
    """The average of the largest faces in ``photos``.

    Args:
        photos: at least one: files, pictures, or (H, W, 3 or 4) uint8.
        weights: one for each photo, at least 0; None: all weigh the same.
        model: as in `Morpher`, like all that follows.
        mode: which layers make the picture.
        fit: steps that bring codes nearer to their faces.
        compose: the face in its frame, or the whole first photo.
        size: longer side of the picture, pixels.
        detector: what finds faces: one of one's own, or "mediapipe", or "either"; None
            is dlib's, see `alignment.detectors`.

    Returns:
        One frame (1, h, w, 3 or 4) uint8, with the weights brought to a sum of 1.

    Raises:
        PhotoError: a photo cannot be read or holds no face.
        ModelError: there is no model, or it is damaged.
        ValueError: a weight below 0, all of them 0, or not one for each photo.

    Examples:
        >>> drawn = Morpher().bundle.decode(np.array([[0.0] * 128, [0.5] * 128]))
        >>> blend = average(list(drawn), [3, 1], size=64)
        >>> blend.frames.shape, blend.weights.tolist()
        ((1, 64, 64, 3), [[0.75, 0.25]])
    """
    given = np.ones(len(photos)) if weights is None else np.array(weights, np.float64)
    if len(given) != len(photos) or not photos:
        raise ValueError(f"{len(photos)} photos and {len(given)} weights")
    morpher = Morpher(model, mode, compose, size, fit=fit, detector=the_detector(detector))
    return morpher.blend(morpher.faces(photos), given[None])
