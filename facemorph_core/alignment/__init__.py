"""From a photo to the canonical frame and exactly back."""

from __future__ import annotations

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
