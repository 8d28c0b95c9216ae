"""What the detectors are called; apart from them, so that a help text need not load OpenCV."""

from __future__ import annotations

from typing import Literal

__all__ = ["DetectorName"]

DetectorName = Literal["dlib", "mediapipe", "either"]
