"""Compute the mean shape and the shape basis that the library ships, from CelebA train photos.

    python -m tools.frame_numbers CELEBA [--photos 3000] [--out frame.npz]

One photo per person of the official train partition; each shape counts twice, as it is and
mirrored, so that the mean is symmetric and no component prefers a side. Generalised Procrustes
analysis with similarities: fit all to the mean, average, put the eyes of the average back where the
frame has them, until nothing moves. The basis is the principal components of the fitted shapes.

Only these numbers leave the photos: a mean over thousands of faces and 24 directions.

References:
    | Generalized Procrustes analysis (Gower, 1975)
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment import frame
from facemorph_core.alignment.frame import EYE_CENTRE, EYE_DISTANCE, NUM_SHAPE
from facemorph_core.alignment.geometry import Points, apply_affine, fit_similarity
from facemorph_core.alignment.landmarks import DlibDetector, LandmarkDetector
from facemorph_core.alignment.photo import load_photo
from facemorph_core.shards.sources import SourcePhoto, celeba

log = logging.getLogger(__name__)

_CREDIT = (
    "Mean of 68 landmarks and 24 principal components of their variation, numbers only. Fitted on "
    "{faces} photos of as many people from the train partition of CelebA (Liu et al., 2015; "
    "non-commercial research), each also mirrored, with dlib's HOG detector and 68-point predictor "
    "(trained on iBUG 300-W). Recompute: python -m tools.frame_numbers CELEBA"
)


def one_photo_per_person(celeba_path: Path, *, photos: int) -> list[SourcePhoto]:
    """The first photo of each train person, evenly spaced over the people; at most ``photos``."""
    first: dict[str, SourcePhoto] = {}
    for photo in celeba(celeba_path):
        if photo.split == "train":
            first.setdefault(photo.person, photo)
    people = list(first.values())
    picked = np.unique(np.linspace(0, len(people) - 1, min(photos, len(people))).round())
    return [people[int(index)] for index in picked]


def detected_shapes(photos: Sequence[SourcePhoto], detector: LandmarkDetector) -> Iterator[Points]:
    """Landmarks of the largest face of each photo that has one, pixels of the photo."""
    for photo in photos:
        faces = detector.detect(load_photo(photo.path))
        if faces:
            yield faces[0].landmarks
        else:
            log.info("no face in %s", photo.name)


def with_mirrored(shapes: Sequence[Points]) -> list[Points]:
    """All shapes, then all mirrored ones (about any line: the fit moves them anyway)."""
    return [*shapes, *(frame.mirror_landmarks(shape, width=1.0) for shape in shapes)]


def with_eyes_in_place(shape: Points) -> Points:
    """The similarity that puts the eye centres where the canonical frame has them."""
    half = np.array([EYE_DISTANCE / 2, 0.0])
    target = np.stack([EYE_CENTRE - half, EYE_CENTRE + half])
    return apply_affine(fit_similarity(frame.eye_centres(shape), target), shape)


def procrustes_mean(shapes: Sequence[Points], *, tolerance: float = 1e-9) -> Points:
    """The shape to which all fit best in least squares, its eyes in place."""
    mean = with_eyes_in_place(shapes[0])
    for _ in range(100):
        fitted = [apply_affine(fit_similarity(shape, mean), shape) for shape in shapes]
        following = with_eyes_in_place(np.mean(fitted, axis=0))
        moved = np.abs(following - mean).max()
        mean = following
        if moved < tolerance:
            break
    return mean


def principal_components(
    shapes: Sequence[Points], mean: Points, *, count: int = NUM_SHAPE
) -> dict[str, NDArray[np.float64]]:
    """Basis of the shapes fitted to ``mean``, largest first, signs fixed."""
    fitted = np.stack([apply_affine(fit_similarity(s, mean), s).reshape(-1) for s in shapes])
    centre = fitted.mean(axis=0)
    _, singular, rows = np.linalg.svd(fitted - centre, full_matrices=False)
    rows = rows[:count]
    largest = np.abs(rows).argmax(axis=1)
    rows *= np.sign(rows[np.arange(len(rows)), largest])[:, None]
    scales = singular[:count] / np.sqrt(len(fitted))
    residual = (fitted - centre) - (fitted - centre) @ rows.T @ rows
    error = np.linalg.norm(residual.reshape(len(fitted), -1, 2), axis=2).mean()
    log.info("%d components leave %.3f px of landmark error", count, error)
    return {"basis_mean": centre, "components": rows, "scales": scales}


def frame_numbers(shapes: Sequence[Points]) -> dict[str, NDArray[np.float64]]:
    """Everything in frame.npz, from landmarks in photos."""
    both = with_mirrored(shapes)
    mean = procrustes_mean(both)
    mirrored = frame.mirror_landmarks(mean, width=float(frame.FRAME_SIZE))
    mean = (mean + mirrored) / 2  # exact to the bit
    return {"mean_shape": mean, **principal_components(both, mean)}


def main() -> None:
    """Read photos, write frame.npz."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("celeba", type=Path, help="folder of the official layout")
    parser.add_argument("--photos", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=Path("frame.npz"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    photos = one_photo_per_person(arguments.celeba, photos=arguments.photos)
    shapes = list(detected_shapes(photos, DlibDetector()))
    provenance = json.dumps({"credit": _CREDIT.format(faces=len(shapes)), "faces": len(shapes)})
    np.savez(
        arguments.out, provenance=np.array(provenance), allow_pickle=False, **frame_numbers(shapes)
    )
    log.info("%s: %d faces of %d photos", arguments.out, len(shapes), len(photos))


if __name__ == "__main__":
    main()
