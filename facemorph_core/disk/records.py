"""Files of a run directory that more than one part reads or writes. See docs/conventions.md."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from facemorph_core.disk.output import output_error, written_whole
from facemorph_core.errors import OutputError

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
ROLLED_BACK = "metrics.rolled-back.jsonl"
"""Lines of rounds that a run went back behind: they were trained all the same."""


def write_atomic(path: Path, content: bytes, *, private: bool = False) -> None:
    """Whole or not at all, on the disk before this returns; replaces what is there.

    ``private``: for its owner alone, whoever could read what was there.

    Raises:
        OutputError: if it cannot be written; what was at ``path`` before is still there.
    """
    with written_whole(path, force=True, private=private) as temporary:
        temporary.write_bytes(content)


def append_metrics(run: Path, entry: Mapping[str, Any]) -> None:
    """Add one object to the run's figures."""
    append_entry(run / METRICS, entry)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The run's figures, oldest first; a torn line of a killed process is left out."""
    return read_entries(run / METRICS)


def read_rolled_back(run: Path) -> list[dict[str, Any]]:
    """The figures of rounds that were rolled back, in the order in which that was done."""
    return read_entries(run / ROLLED_BACK)


def numbered(folder: Path, kind: str, suffix: str) -> dict[int, Path]:
    """The files KIND-NNNN.SUFFIX of a folder by their numbers, which as text end with 9999."""
    name = re.compile(rf"{kind}-(\d+){re.escape(suffix)}")
    found = [
        (int(m[1]), path) for path in folder.glob(f"{kind}-*") if (m := name.fullmatch(path.name))
    ]
    return dict(sorted(found))


def append_entry(file: Path, entry: Mapping[str, Any]) -> None:
    """Add one object to a file of JSON lines; it is on the disk before this returns.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with file.open("a+b") as stream:
            if stream.tell() and not _ends_a_line(stream):
                stream.write(b"\n")  # a killed process left half a line
            stream.write(json.dumps(entry).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise output_error(error, file) from error


def read_entries(file: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, none without a file; torn lines are left out.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"{file} cannot be read: {error.strerror or error}") from None
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            entries.append(entry)
        else:
            log.warning("%s: a torn line is left out", file)
    return entries


def _ends_a_line(stream: BinaryIO) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def keep_metrics(run: Path, *, up_to: int, key: str = "round") -> None:
    """Forget figures past ``up_to``: their work has no checkpoint and is done again."""
    if (run / METRICS).exists():
        kept = [entry for entry in read_metrics(run) if number_of(entry, key) <= up_to]
        write_entries(run / METRICS, kept)


def write_entries(file: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Make these the objects of a file of JSON lines."""
    write_atomic(file, "".join(json.dumps(entry) + "\n" for entry in entries).encode())


def number_of(entry: Mapping[str, Any], key: str = "round") -> float:
    """Where an entry stands; one that does not say it comes after all others."""
    value = entry.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else math.inf
