"""Two photos -> a sequence of faces between them: align, encode, interpolate, decode.

Frames are (n, S, S, 3) uint8 RGB at the model's image size; alpha runs from 0 (photo A) to 1
(photo B), both included. The first and the last frame are what the model makes of the photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.align import AlignedFace, FaceChoice, align_photo
from facemorph_core.alignment.frame import framing
from facemorph_core.alignment.landmarks import LandmarkDetector
from facemorph_core.bundle.locate import find_model
from facemorph_core.bundle.manifest import Framing
from facemorph_core.bundle.read import Bundle, open_bundle
from facemorph_core.errors import ModelError
from facemorph_core.latent.interpolate import Kind
from facemorph_core.latent.interpolate import path as latent_path
from facemorph_core.morphing.media import FPS, HOLD, resized, write_frames

Photo = Path | str | Image.Image | NDArray[np.uint8]

STEPS = 21
"""Frames of a morph: alpha in steps of 0.05."""


@dataclass(frozen=True)
class MorphSequence:
    """The frames of a morph and what they came from."""

    frames: NDArray[np.uint8]
    alphas: NDArray[np.float64]
    faces: tuple[AlignedFace, AlignedFace]

    def __len__(self) -> int:
        return len(self.frames)

    def save(
        self,
        out: Path | str,
        *,
        fps: float = FPS,
        hold: float = HOLD,
        size: int | None = None,
        force: bool = False,
    ) -> list[Path]:
        """Write the frames as ``out`` says by its name, see `media.write_frames`."""
        return write_frames(
            self.frames,
            out,
            fps=fps,
            hold=hold,
            size=size,
            force=force,
            ends=(self.faces[0].pixels, self.faces[1].pixels),
            labels=[f"{alpha:.2f}" for alpha in self.alphas],
        )


def alphas(steps: int) -> NDArray[np.float64]:
    """``steps`` equal steps from 0 to 1, both included."""
    if steps < 2:
        raise ValueError(f"a morph has at least its two ends, so steps >= 2 (got {steps})")
    return np.linspace(0, 1, steps)


def morph(
    photo_a: Photo,
    photo_b: Photo,
    *,
    steps: int = STEPS,
    model: Bundle | Path | str | None = None,
    path: Kind = "lerp",
    face: FaceChoice | tuple[FaceChoice, FaceChoice] = "largest",
    fit: int = 0,
    size: int | None = None,
    detector: LandmarkDetector | None = None,
) -> MorphSequence:
    """Morph the face in ``photo_a`` into that in ``photo_b``.

    ``model`` is a bundle or what `find_model` understands, None the starter. ``face`` chooses
    among several faces (a number, 1 being the largest, or "largest", or "only"), for both photos
    or for each. ``fit`` steps bring the two codes nearer to their faces, see `latent.fitting`.
    ``size`` scales the frames, pixels a side.

    Raises:
        PhotoError: a photo cannot be read or holds no such face.
        ModelError: there is no model, or it is damaged.
    """
    weights = alphas(steps)
    bundle = model if isinstance(model, Bundle) else open_bundle(find_model(model))
    _check_framing(bundle)
    side = bundle.manifest.image_size
    choice_a, choice_b = face if isinstance(face, tuple) else (face, face)
    face_a = align_photo(photo_a, detector, face=choice_a, size=side)
    face_b = align_photo(photo_b, detector, face=choice_b, size=side)
    frames = between(bundle, face_a, face_b, weights, path, fit=fit)
    return MorphSequence(resized(frames, size), weights, (face_a, face_b))


def between(
    bundle: Bundle,
    face_a: AlignedFace,
    face_b: AlignedFace,
    weights: NDArray[np.float64],
    path: Kind = "lerp",
    *,
    fit: int = 0,
) -> NDArray[np.uint8]:
    """The decoded frames at each alpha of ``weights`` between two aligned faces."""
    faces = (face_a, face_b)
    code_a, code_b = bundle.encode(
        np.stack([face.pixels for face in faces]),
        np.stack([face.landmarks for face in faces]),
        fit=fit,
    )
    return bundle.decode(latent_path(code_a, code_b, weights, path))


def generate_morph_sequence(
    img1_path: Path | str, img2_path: Path | str, steps: int = STEPS
) -> list[Image.Image]:
    """The morph of two photo files as ``steps`` pictures, with the model at hand."""
    return [Image.fromarray(frame) for frame in morph(img1_path, img2_path, steps=steps).frames]


def _check_framing(bundle: Bundle) -> None:
    stated, ours = bundle.manifest.framing, Framing.model_validate(framing())
    if stated != ours:
        raise ModelError(
            f"the model '{bundle.manifest.name}' expects faces framed as {stated}, "
            f"but this version aligns them as {ours}",
            hint="use the facemorph-core that the model was made with: "
            f"{bundle.manifest.core_version}",
        )
