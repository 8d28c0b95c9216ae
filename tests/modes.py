"""Who may look at what lies on the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def lax_in(folder: Path) -> list[str]:
    """What in ``folder``, itself included, is open to anybody beside its owner."""
    found = [folder]
    for directory, folders, files in os.walk(folder):
        found += [Path(directory) / name for name in (*folders, *files)]
    return [str(path) for path in found if path.exists() and _is_lax(path)]


def _is_lax(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
