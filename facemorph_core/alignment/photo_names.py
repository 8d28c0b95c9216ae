"""How photos are named; apart from what reads them, so that a look into a folder loads nothing."""

from __future__ import annotations

__all__ = ["PHOTO_SUFFIXES"]

PHOTO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff"),
        *("ppm", "pgm", "pnm", "avif", "jp2", "heic", "heif"),
    )
)
"""Of names that say "photo"; anything else in a folder is left alone, except that these are tried
and reported when they are not what they say."""
