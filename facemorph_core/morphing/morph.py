"""Whole morphs in one call: photos in, pictures out. `Morpher` has every setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from facemorph_core.alignment.align import FaceChoice
from facemorph_core.alignment.landmarks import DlibDetector, LandmarkDetector
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
    detector: LandmarkDetector | None = None,
) -> MorphSequence:
    """Morph the face in ``photo_a`` into that in ``photo_b``.

    ``face`` chooses among several faces (a number, 1 being the largest, or "largest", or "only"),
    for both photos or for each. The rest is as in `Morpher`.

    Raises:
        PhotoError: a photo cannot be read or holds no such face.
        ModelError: there is no model, or it is damaged.
    """
    alphas(steps)
    morpher = Morpher(
        model, mode, compose, size, path, ease=ease, fit=fit, detector=detector or DlibDetector()
    )
    choices = face if isinstance(face, tuple) else (face, face)
    return morpher.sequence(morpher.faces((photo_a, photo_b), choices), steps=steps)


def generate_morph_sequence(
    img1_path: Path | str, img2_path: Path | str, steps: int = DEFAULT_STEPS
) -> list[Image.Image]:
    """The morph of two photo files as ``steps`` pictures, with the model at hand."""
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
    detector: LandmarkDetector | None = None,
) -> MorphBlend:
    """The average of the largest faces in ``photos``; without ``weights`` all weigh the same.

    Raises:
        PhotoError: a photo cannot be read or holds no face.
        ModelError: there is no model, or it is damaged.
        ValueError: a weight below 0, all of them 0, or not one for each photo.
    """
    given = np.ones(len(photos)) if weights is None else np.array(weights, np.float64)
    if len(given) != len(photos) or not photos:
        raise ValueError(f"{len(photos)} photos and {len(given)} weights")
    morpher = Morpher(model, mode, compose, size, fit=fit, detector=detector or DlibDetector())
    return morpher.blend(morpher.faces(photos), given[None])
