"""Files and folders for their owner alone, from their first moment on, whatever the umask allows.

For what shows or remembers faces, and for keys. Files and folders that are there keep their modes:
those are their owner's choice. Windows has no such modes; there a user's own folder is closed to
others anyway.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Any

__all__ = [
    "PRIVATE_FILE",
    "has_modes",
    "is_open_to_others",
    "opened_privately",
    "private_folder",
]

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


def private_folder(folder: Path) -> None:
    """Make ``folder`` and what is missing above it, each mode 0700.

    Raises:
        OSError: it cannot be made, or is a file.
    """
    if not folder.is_dir():
        private_folder(folder.parent)
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def opened_privately(path: Path, mode: str, **options: Any) -> IO[Any]:
    """`open`, for writing; a file that this makes has mode 0600.

    Raises:
        OSError: as `open`.
    """
    return open(path, mode, opener=_opener, **options)


def has_modes() -> bool:
    """Whether a file's mode says who may read it; on Windows it says "everybody" of every file."""
    return os.name == "posix"


def is_open_to_others(folder: Path) -> bool:
    """Whether users beside the owner and the group may look into it."""
    return has_modes() and bool(folder.stat().st_mode & stat.S_IRWXO)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)
