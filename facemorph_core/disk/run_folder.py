"""A folder of long work, which a kill at any moment does not harm.

    | .lock        held by the one process that works there; the system takes it from a killed one
    | state.json   where the work stands: one JSON object, written last, whole or not at all

What the state says of files counts; what it does not name may be half of something.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import Timeout

from facemorph_core.disk.output import FULL, locked, output_error, reported_output
from facemorph_core.disk.records import write_atomic
from facemorph_core.errors import FaceMorphError, OutputError

__all__ = [
    "STATE",
    "held_alone",
    "is_taken",
    "noting_failure",
    "read_values",
    "reason",
    "taken_and_free",
    "write_values",
]

STATE = "state.json"


@contextlib.contextmanager
def held_alone(folder: Path, *, other: str, hint: str) -> Iterator[None]:
    """``folder``, made if needed, for this process alone; ``other`` is what else may be in it.

    Raises:
        OutputError: another process holds it, or it cannot be written.
    """
    with reported_output(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / ".lock", timeout=0))
        except Timeout:
            raise OutputError(f"{folder} is in use by another {other}", hint=hint) from None
        yield


# --- where it stands -------------------------------------------------------------------------


def read_values(folder: Path) -> dict[str, Any] | None:
    """What `write_values` left; None if it left nothing.

    Raises:
        ValueError: the file holds no JSON object, as one does that was cut.
        OSError: it cannot be read.
    """
    try:
        values = json.loads((folder / STATE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not isinstance(values, dict):
        raise ValueError(f"an object is expected, not {type(values).__name__}")
    return values


def write_values(folder: Path, values: Mapping[str, Any]) -> None:
    """Replace the state; it is on the disk before this returns.

    Raises:
        OutputError: it cannot be written; the state before it is still there.
    """
    write_atomic(folder / STATE, json.dumps(values, indent=2).encode())


# --- how it failed ---------------------------------------------------------------------------


@contextlib.contextmanager
def noting_failure(note: Callable[[BaseException], None]) -> Iterator[None]:
    """Let ``note`` write down what goes wrong inside, an interruption too, on its way out.

    Where the disk takes no note, the error matters more than its record.
    """
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OutputError):
            note(error)
        raise


def reason(error: BaseException) -> str:
    """Why something stopped, for whoever started it: the message, and its hint in a second line."""
    if isinstance(error, OSError) and error.errno in FULL:
        error = output_error(error, error.filename or "the run directory")
    if not isinstance(error, FaceMorphError):
        return f"{type(error).__name__}: {error}"
    return f"{error}\n hint: {error.hint}" if error.hint else str(error)


# --- which folder ----------------------------------------------------------------------------


def taken_and_free(root: Path, name: str) -> tuple[list[Path], Path]:
    """Of NAME, NAME-2, NAME-3 and so on, those before the first that is free, and that one."""
    taken = []
    for number in itertools.count(1):
        path = root / (name if number == 1 else f"{name}-{number}")
        if not is_taken(path):
            break
        taken.append(path)
    return taken, path


def is_taken(path: Path) -> bool:
    """Whether anything is there; files whose names begin with a dot are nobody's work.

    Raises:
        OutputError: that cannot be seen.
    """
    with reported_output(path):
        if not path.is_dir():
            return path.exists()
        try:
            return any(not entry.name.startswith(".") for entry in path.iterdir())
        except PermissionError:
            return True  # somebody else's
