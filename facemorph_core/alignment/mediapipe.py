"""Faces by MediaPipe's nets, whose licence admits commercial use: a second `LandmarkDetector`.

The detector sees faces of any angle in windows of one size; the mesh says where they are exactly,
which way up, and whether they are faces at all. Nothing of the package of that name is imported:
the nets lie in ``assets`` as ONNX.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.blazeface import WINDOW, look
from facemorph_core.alignment.doubts import is_a_face
from facemorph_core.alignment.face_mesh import FaceMesh, settled
from facemorph_core.alignment.landmarks import DetectedFace
from facemorph_core.alignment.mesh_points import landmarks_of
from facemorph_core.alignment.search import (
    Sight,
    merged,
    ranked,
    turned_sights,
    upright_sights,
)

__all__ = ["MediaPipeDetector", "meshes_of"]

FINEST = 1024
"""Longer side, pixels, up to which an image is looked at: a face there has 15 pixels and more."""
SCORE_OF_CLEAR = 20.0
"""Logit of the mesh that counts as a score of 1, as which dlib's detector has it: of CelebA's faces
one in fifty has less than half of it with either."""
LEAST, LEAST_AT_LAST = 0.2, 0.3
"""Scores below which it is no face. Of 96 pictures of things one, a motorcycle, is above. The last
attempt looks at each three times more, so what it finds has to be surer."""
TURNS = (90.0, -90.0, 180.0)


class MediaPipeDetector:
    """MediaPipe's short-range detector and its face mesh, of which the 68 landmarks are made.

    An image is looked at with its longer side at one window's, then at 2, 4 and 8 times that, as
    far as it has pixels; if nothing was found, at half of it, for faces that fill or leave a
    photo, and turned. Faces come by size and certainty together; what the mesh takes for no face,
    and landmarks that are no face's, are left out.
    """

    name = "mediapipe"

    @property
    def tried(self) -> str:
        return (
            f"its whole and parts of it at up to {FINEST} pixels, shrunk with a wide border, and "
            "turned by quarters"
        )

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        return _faces(image, _seen(image)) or _last_attempt(image)

    def detect_first(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        return _faces(image, _seen(image, enough=True)) or self.detect(image)


def _seen(image: NDArray[np.uint8], *, enough: bool = False) -> list[Sight]:
    """What is seen of an image, from the whole to its parts."""
    longest = max(image.shape[:2])
    sides = [WINDOW * 2**step for step in range(1, 8) if WINDOW * 2**step <= FINEST]
    scales = [WINDOW / longest, *(side / longest for side in sides if side <= longest)]
    return upright_sights(image, look, scales, enough=enough)


def _last_attempt(image: NDArray[np.uint8]) -> list[DetectedFace]:
    scale = WINDOW / max(image.shape[:2])
    for sights in (
        upright_sights(image, look, [scale / 2]),
        turned_sights(image, look, scale, TURNS),
    ):
        if faces := _faces(image, sights, at_least=LEAST_AT_LAST):
            return faces
    return []


def _faces(
    image: NDArray[np.uint8], sights: list[Sight], *, at_least: float = LEAST
) -> list[DetectedFace]:
    faces = [
        DetectedFace(landmarks_of(mesh.points), sight.box, sight.score)
        for sight, mesh in _meshes(image, sights, at_least)
    ]
    return [face for face in faces if is_a_face(face.landmarks)]


def meshes_of(image: NDArray[np.uint8]) -> list[tuple[Sight, FaceMesh]]:
    """The meshes of the faces in an (H, W, 3) RGB image, the one that is meant first."""
    return _meshes(image, _seen(image, enough=True), LEAST)


def _meshes(
    image: NDArray[np.uint8], sights: list[Sight], at_least: float
) -> list[tuple[Sight, FaceMesh]]:
    """What of it is a face once its mesh is known; two sights may turn out to be one face."""
    meshes = {_settled_sight(mesh): mesh for mesh in (settled(image, each) for each in sights)}
    sure = merged([sight for sight in meshes if sight.score >= at_least])
    return [(sight, meshes[sight]) for sight in ranked(sure)]


def _settled_sight(mesh: FaceMesh) -> Sight:
    square = mesh.square
    return Sight(square.box, mesh.logit / SCORE_OF_CLEAR, square.turn)
