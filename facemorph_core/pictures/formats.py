"""Kinds of files and how films play. Nothing is imported: a command's help reads this."""

from __future__ import annotations

__all__ = ["FPS", "HOLD", "PICTURE_SUFFIXES", "PLAYED_SIZE", "SUFFIXES"]

SUFFIXES = (".gif", ".mp4", ".webp", ".mov", ".webm", ".avif", ".apng", ".png")
"""Of a morph in a single file; .png, a contact sheet, is what old commands say for --sheet."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif")
"""Of a single picture, and of a contact sheet."""
FPS = 15.0
"""Frames a second."""
HOLD = 0.5
"""Seconds that the frames which show a photo stay longer."""
PLAYED_SIZE = 256
"""Side of frames unless a size is asked for, pixels."""
