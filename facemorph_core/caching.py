"""Where this user's cache is: everything in it can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from facemorph_core.output import reported_output

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """Folder of everything that can be made or fetched again; $FACEMORPH_CACHE overrides it.

    Raises:
        OutputError: it cannot be made.
    """
    override = os.environ.get("FACEMORPH_CACHE")
    folder = Path(override).expanduser() if override else platformdirs.user_cache_path("facemorph")
    with reported_output(folder, hint="set FACEMORPH_CACHE to a folder that can be written"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()
