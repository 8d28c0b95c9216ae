"""Files that end with the SHA-256 of what is before it, for what can be made again.

A file that was cut, emptied or changed is noticed before anything parses it. Readers that stop at
the end of what they know (of an npz, of dlib's files) do not mind the 32 bytes behind it.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from facemorph_core.disk.records import write_atomic

__all__ = ["read_sealed", "write_sealed"]

log = logging.getLogger(__name__)

_SEAL = hashlib.sha256().digest_size


def write_sealed(path: Path, content: bytes) -> None:
    """Whole or not at all; replaces what is there.

    Raises:
        OutputError: it cannot be written.
    """
    write_atomic(path, content + hashlib.sha256(content).digest())


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` wrote; None if there is none, and with a warning if it is damaged.

    Examples:
        >>> from pathlib import Path
        >>> write_sealed(Path("made"), b"again and again")
        >>> read_sealed(Path("made")), read_sealed(Path("never made"))
        (b'again and again', None)
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s), and is made again", path, error.strerror or error)
        return None
    content, seal = data[:-_SEAL], data[-_SEAL:]
    if hashlib.sha256(content).digest() == seal:
        return content
    log.warning("%s is damaged, and is made again", path)
    return None
