"""How much memory is left: of the machine, and of what its containers grant."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from facemorph_core.machine.cores import own_groups

__all__ = ["available_memory"]

MEMORY = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    return min((max(0, each) for each in _left()), default=None)


def _left() -> Iterator[int]:
    """What the machine has, and what each control group leaves, in versions 2 and 1."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = MEMORY.read_text("ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        yield int(line.split()[1]) * 2**10
    for folder in own_groups("memory"):
        for most, used, idle in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with contextlib.suppress(OSError, ValueError):  # "max" is no limit
                limit = int((folder / most).read_text("ascii"))
                yield limit - int((folder / used).read_text("ascii")) + _idle(folder, idle)


def _idle(folder: Path, name: str) -> int:
    """Bytes of files that are held and not needed: they make room."""
    for line in (folder / "memory.stat").read_text("ascii").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
