"""From a photo to the canonical frame and exactly back.

A name is imported when it is first used: the frame's numbers must not cost loading OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facemorph_core.alignment.align import AlignedFace, align_face, align_photo, to_photo
    from facemorph_core.alignment.frame import (
        EYE_CENTRE,
        EYE_DISTANCE,
        FRAME_SIZE,
        ShapeBasis,
        framing,
        mean_shape,
        shape_basis,
    )
    from facemorph_core.alignment.given import Eyes, GivenLandmarks
    from facemorph_core.alignment.landmarks import DetectedFace, DlibDetector, LandmarkDetector
    from facemorph_core.alignment.photo import MAX_PIXELS, load_photo

__all__ = [
    "EYE_CENTRE",
    "EYE_DISTANCE",
    "FRAME_SIZE",
    "MAX_PIXELS",
    "AlignedFace",
    "DetectedFace",
    "DlibDetector",
    "Eyes",
    "GivenLandmarks",
    "LandmarkDetector",
    "ShapeBasis",
    "align_face",
    "align_photo",
    "framing",
    "load_photo",
    "mean_shape",
    "shape_basis",
    "to_photo",
]

_HOMES = {
    "AlignedFace": "align",
    "align_face": "align",
    "align_photo": "align",
    "to_photo": "align",
    "DetectedFace": "landmarks",
    "DlibDetector": "landmarks",
    "LandmarkDetector": "landmarks",
    "Eyes": "given",
    "GivenLandmarks": "given",
    "MAX_PIXELS": "photo",
    "load_photo": "photo",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'frame')}"), name)
