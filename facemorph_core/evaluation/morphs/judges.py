"""Who looks at the frames: landmarks, likeness, steps and features, as far as they are here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.landmarks import DlibDetector, LandmarkDetector
from facemorph_core.errors import MissingExtra, OutputError, WeightsUnavailable
from facemorph_core.machine.cores import available_cores
from facemorph_core.metrics.identity import Embedder, FaceEmbedder, embedding_weights

__all__ = ["Judges", "Remembering", "judges_here"]

Pictures = NDArray[np.uint8]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """What each needs is third-party weights: None where they are not here."""

    detector: LandmarkDetector
    embedder: Embedder | None
    steps: Callable[[Pictures], Numbers] | None
    """(n, S, S, 3) -> (n - 1,) LPIPS from each frame to the next."""
    features: Callable[[Pictures], Numbers] | None
    """(n, S, S, 3) -> (n, 512) of VGG16."""
    unavailable: dict[str, str] = field(default_factory=dict)
    """What is not measured, and what to do about it."""


@dataclass(frozen=True, slots=True, eq=False)
class Remembering:
    """An embedder that looks at no picture twice: at their ends, morphs of two modes are photos."""

    embedder: Embedder
    known: dict[bytes, Numbers] = field(default_factory=dict)

    def embed(self, faces: Pictures, landmarks: NDArray[Any]) -> Numbers:
        """As `Embedder.embed`."""
        both = list(zip(faces, np.asarray(landmarks, np.float64), strict=True))
        keys = [hashlib.sha256(face.tobytes() + points.tobytes()).digest() for face, points in both]
        new = {key: place for place, key in enumerate(keys) if key not in self.known}
        if new:
            places = list(new.values())
            found = self.embedder.embed(faces[places], np.asarray(landmarks)[places])
            self.known.update(zip(new, found, strict=True))
        return np.stack([self.known[key] for key in keys])


def judges_here() -> Judges:
    """Those that can work on this machine."""
    unavailable: dict[str, str] = {}

    def had(name: str, make: Callable[[], Any]) -> Any:
        try:
            if name != "identity" and find_spec("torch") is None:
                raise MissingExtra("train", needed_for=name)
            return make()
        except (WeightsUnavailable, MissingExtra, OutputError) as error:  # no cache: no home
            unavailable[name] = f"{error}: {error.hint}" if error.hint else str(error)
            return None

    return Judges(
        DlibDetector(),
        had("identity", lambda: FaceEmbedder(embedding_weights(), workers=available_cores())),
        had("LPIPS", _lpips_steps),
        had("distances to real faces", _vgg),
        unavailable,
    )


def _lpips_steps() -> Callable[[Pictures], Numbers]:
    from facemorph_core.learning.nets.lpips import load_lpips, lpips_steps

    network = load_lpips()
    return lambda frames: lpips_steps(network, frames)


def _vgg() -> Callable[[Pictures], Numbers]:
    from facemorph_core.learning.nets.vgg_features import load_features, vgg_features

    network = load_features()
    return lambda pictures: vgg_features(network, pictures)
