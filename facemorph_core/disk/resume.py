"""Long work in a folder of its own, which knows what it is of, so that it can go on later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facemorph_core.disk.output import reported_output
from facemorph_core.disk.records import write_atomic
from facemorph_core.disk.run_folder import is_taken
from facemorph_core.errors import OutputError

__all__ = ["claim"]


def claim(folder: Path, facts: Mapping[str, Any], *, what: str) -> None:
    """Make ``folder`` that of the work ``what`` with these facts, or see that it is.

    They stand in its file ``what``.json. Files whose names begin with a dot are nobody's work.

    Raises:
        OutputError: it holds work with other facts or something else, or cannot be written.
    """
    path = folder / f"{what}.json"
    if path.exists():
        known = _read(path, what)
        differing = sorted(key for key in {*facts, *known} if facts.get(key) != known.get(key))
        if differing:
            raise OutputError(
                f"{folder} holds another {what}: {', '.join(differing)} differ",
                hint="choose another folder",
            )
        return
    with reported_output(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if is_taken(folder):
        raise OutputError(f"{folder} is not empty and no {what}", hint="choose another folder")
    write_atomic(path, json.dumps(facts, indent=1).encode())


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(
            f"{path}, which says what the {what} is, cannot be read: {error}",
            hint="choose another folder",
        ) from error
