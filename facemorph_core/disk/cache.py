"""Where this user's cache is: everything in it can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import platformdirs

from facemorph_core.disk.output import reported_output
from facemorph_core.errors import OutputError

__all__ = ["cache_dir", "user_folder"]


def cache_dir() -> Path:
    """Folder of everything that can be made or fetched again; $FACEMORPH_CACHE overrides it.

    Raises:
        OutputError: it cannot be made.
    """
    override = os.environ.get("FACEMORPH_CACHE")
    hint = "set FACEMORPH_CACHE to a folder that can be written"
    try:
        folder = Path(override).expanduser() if override else user_folder("cache")
    except RuntimeError:
        raise OutputError("this user has no home, and so no cache", hint=hint) from None
    with reported_output(folder, hint=hint):
        folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def user_folder(kind: Literal["cache", "data"]) -> Path:
    """Where this user's programs keep such things; it need not be there.

    Raises:
        RuntimeError: this user has no home, as in a container under an id that it does not know.
    """
    find = platformdirs.user_cache_path if kind == "cache" else platformdirs.user_data_path
    folder = find("facemorph")
    if not folder.is_absolute():  # of older platformdirs; a folder called ~ would be made
        raise RuntimeError(f"{folder} has no home to begin with")
    return folder
