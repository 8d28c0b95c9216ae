"""Photos in any colour space -> sRGB, by the profile that they carry; and sRGB's own profile.

Cameras and telephones write Display P3, Adobe RGB or ProPhoto RGB: numbers of wider spaces, which
look pale or of another hue where they are taken for sRGB. A photo without a profile is taken for
sRGB, as every browser does, and so is one whose profile is damaged or of another kind of picture.

References:
    | ICC.1:2022, Image technology colour management
    | IEC 61966-2-1, sRGB
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

__all__ = ["in_srgb", "srgb_profile"]

NOT_SEEN = 1
"""Levels of 8 bits: a profile that moves no colour further is sRGB's own, as most are."""
_PROFILED = ("RGB", "CMYK", "L")
_DATE, _DIGEST = slice(24, 36), slice(84, 100)
"""Places in a profile's head (ICC.1:2022, 7.2)."""


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The colours of ``image`` in mode RGB, without its transparency."""
    ready = image
    if image.mode not in _PROFILED:
        ready = image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")
    transform = _transform(profile, ready.mode) if profile else None
    if transform is None:
        return ready.convert("RGB")
    changed = ImageCms.applyTransform(ready, transform)
    assert changed is not None
    return changed


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """A profile of sRGB, the same on every day."""
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    made[_DATE] = np.array([2000, 1, 1, 0, 0, 0], ">u2").tobytes()
    made[_DIGEST] = bytes(16)
    return bytes(made)


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB; None if it would change nothing, or is none for such pictures."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        before = _samples(mode)
        after = ImageCms.applyTransform(before, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    assert after is not None
    moved = np.asarray(after, np.int16) - np.asarray(before.convert("RGB"), np.int16)
    return transform if np.abs(moved).max() > NOT_SEEN else None


def _samples(mode: str) -> Image.Image:
    """Colours from all over the space."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    corners = np.stack(np.meshgrid(*[steps] * len(mode)), axis=-1).reshape(1, -1, len(mode))
    return Image.fromarray(corners, mode=mode)
