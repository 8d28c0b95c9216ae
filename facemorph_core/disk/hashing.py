"""Hashes of files."""

from __future__ import annotations

import hashlib
import mmap
import zlib
from collections.abc import Iterable
from functools import cache
from io import BufferedReader
from pathlib import Path

__all__ = [
    "core_sha256",
    "file_crc32",
    "file_sha256",
    "files_sha256",
    "package_sha256",
    "stream_sha256",
]


def file_sha256(path: Path) -> str:
    """In hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return stream_sha256(stream)


def stream_sha256(stream: BufferedReader) -> str:
    """Of what is left of an open file, which is at its end afterwards."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def file_crc32(path: Path) -> int:
    """Enough against damage, though not against anybody, in a seventh of the time or less.

    For what is mapped into memory and looked through at every start.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return zlib.crc32(data)


def files_sha256(folder: Path, files: Iterable[Path]) -> str:
    """Of the names of ``files``, as seen from ``folder``, and of what they hold.

    Raises:
        OSError: one cannot be read.
    """
    hasher = hashlib.sha256()
    for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in files):
        content = file.read_bytes()
        hasher.update(f"{name} {len(content)}\n".encode() + content)
    return hasher.hexdigest()


def package_sha256(folder: Path) -> str:
    """Of all files of a package; an installed wheel and the checkout it is of have the same.

    Bytecode is left out, and what is hidden: editors and file managers leave such files behind.
    """
    files = (file for file in folder.rglob("*") if file.is_file())
    return files_sha256(folder, [f for f in files if _belongs(f.relative_to(folder).parts)])


@cache
def core_sha256() -> str:
    """`package_sha256` of the facemorph_core that this process imported; read once."""
    return package_sha256(Path(__file__).parents[1])


def _belongs(parts: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and "__pycache__" not in parts and not parts[-1].endswith(".pyc")
