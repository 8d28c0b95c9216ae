"""What a film takes, before it is made: bytes of memory and of disk.

The figures are bounds from above of what was measured (decision 020), rounded up: noise and fine
detail take more than a portrait.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from facemorph_core.errors import OutputError
from facemorph_core.machine.memory import available_memory

__all__ = ["HELD_WHOLE", "check_disk", "check_memory", "file_size", "human"]

BYTES_A_VALUE: Mapping[str, float] = {
    ".png": 0.8,
    ".apng": 0.8,
    ".mov": 0.7,
    ".webp": 0.15,
    ".avif": 0.3,
    ".mp4": 0.15,
    ".webm": 0.12,
}
"""Bytes of a file for each byte of its frames, by suffix; a GIF is bounded by itself."""
GIF_BYTES = 10_000_000
HELD_WHOLE = frozenset({".webp", ".avif"})
"""Pillow holds these files until they are whole."""


def file_size(suffix: str, count: int, frame_bytes: int) -> int:
    """Bytes of a film of ``count`` frames."""
    if suffix == ".gif":
        return GIF_BYTES
    return round(BYTES_A_VALUE.get(suffix, 1.0) * count * frame_bytes)


def check_disk(wanted: Mapping[Path, int], what: str, *, advice: str) -> None:
    """Refuse what does not fit: bytes by the folder that they go to.

    Raises:
        OutputError: with what is needed and what is free.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size in wanted.items():
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        device = there.stat().st_dev
        disks[device] = there, disks.get(device, (there, 0))[1] + size
    for there, size in disks.values():
        free = shutil.disk_usage(there).free
        if size > free:
            raise OutputError(
                f"{what} take about {human(size)} of disk, and {there} has {human(free)} free",
                hint=advice,
            )


def check_memory(wanted: int, what: str, *, advice: str) -> None:
    """Refuse what would end in the middle for want of memory.

    Raises:
        OutputError: with what is needed and what is free.
    """
    free = available_memory()
    if free is not None and wanted > free:
        raise OutputError(
            f"{what} takes about {human(wanted)} of memory, and {human(free)} are free",
            hint=advice,
        )


def human(size: float) -> str:
    """Such as "1.5 GB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"
