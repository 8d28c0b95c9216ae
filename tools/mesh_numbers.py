"""Fit the map from MediaPipe's points to dlib's that the library ships, on CelebA train photos.

    python -m tools.mesh_numbers CELEBA [--photos 1600] [--out mediapipe-68.npz]

One photo per person of the official train partition, where both detectors find a clear face; each
counts twice, as it is and mirrored, so that the map prefers no side. Least squares with a small
penalty on the weights (ridge): a mesh has fewer ways to differ than 136.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import FRAME_SIZE, mean_shape, mirror_landmarks
from facemorph_core.alignment.geometry import Points, apply_affine, fit_similarity
from facemorph_core.alignment.landmarks import DlibDetector
from facemorph_core.alignment.mediapipe import meshes_of
from facemorph_core.alignment.mesh_points import TABLE
from facemorph_core.alignment.photo import load_photo
from facemorph_core.alignment.search import CLEAR
from facemorph_core.shards.sources import SourcePhoto
from tools.frame_numbers import one_photo_per_person

log = logging.getLogger(__name__)

PENALTY = 200.0
"""Square pixels: of faces that were left out, it decides the error's second digit at most."""
_CREDIT = (
    "Linear map from 68 of MediaPipe's 468 mesh points to dlib's 68 landmarks, numbers only. "
    "Fitted on {faces} photos of as many people from the train partition of CelebA (Liu et al., "
    "2015; non-commercial research), each also mirrored, to landmarks by dlib's 68-point predictor "
    "(trained on iBUG 300-W). Recompute: python -m tools.mesh_numbers CELEBA"
)
Pair = tuple[Points, Points]
"""MediaPipe's points of the table and dlib's landmarks, in the frame as the former lie in it."""


def pairs_of(photos: Sequence[SourcePhoto]) -> Iterator[Pair]:
    """One for each photo in which both see the same clear face."""
    detector = DlibDetector()
    for photo in photos:
        image = load_photo(photo.path)
        found, meshes = detector.detect_first(image), meshes_of(image)
        if not found or not meshes or min(found[0].score, meshes[0][0].score) < CLEAR:
            continue
        chosen = meshes[0][1].points[list(TABLE)]
        to_frame = fit_similarity(chosen, mean_shape())
        pair = apply_affine(to_frame, chosen), apply_affine(to_frame, found[0].landmarks)
        if np.linalg.norm(pair[1] - pair[0], axis=1).mean() < FRAME_SIZE / 12:
            yield pair


def fitted(pairs: Sequence[Pair]) -> dict[str, NDArray[np.float32]]:
    """What mediapipe-68.npz holds: ``weights`` (136, 136) and ``middle`` (136,)."""
    both = [*pairs, *((_mirrored(mesh), _mirrored(points)) for mesh, points in pairs)]
    away = np.stack([(mesh - mean_shape()).ravel() for mesh, _ in both])
    points = np.stack([points.ravel() for _, points in both])
    centre, middle = away.mean(axis=0), points.mean(axis=0)
    given, wanted = away - centre, points - middle
    # what the map adds to the points themselves is what is held small
    added = np.linalg.solve(
        given.T @ given + PENALTY * np.eye(given.shape[1]), given.T @ (wanted - given)
    )
    weights = np.eye(given.shape[1]) + added.T
    return {
        "weights": weights.astype(np.float32),
        "middle": (middle - weights @ centre).astype(np.float32),
    }


def _mirrored(points: Points) -> Points:
    return mirror_landmarks(points, width=float(FRAME_SIZE))


def main() -> None:
    """Read photos, write mediapipe-68.npz."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("celeba", type=Path, help="folder of the official layout")
    parser.add_argument("--photos", type=int, default=1600)
    parser.add_argument("--out", type=Path, default=Path("mediapipe-68.npz"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pairs = list(pairs_of(one_photo_per_person(arguments.celeba, photos=arguments.photos)))
    provenance = json.dumps({"credit": _CREDIT.format(faces=len(pairs)), "faces": len(pairs)})
    np.savez_compressed(
        arguments.out, provenance=np.array(provenance), allow_pickle=False, **fitted(pairs)
    )
    log.info("%s: from %d photos", arguments.out, len(pairs))


if __name__ == "__main__":
    main()
