"""The read token of a hub: a secret in a file, the same at the hub and at its readers."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from facemorph_core.errors import HubError

__all__ = ["checked_token", "read_token_file"]

TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))' > FILE && chmod 600 FILE"


def read_token_file(path: Path) -> str:
    """The token in ``path``, which nobody but its owner may read."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise HubError(
                f"others on this machine may read the token file {path}",
                hint=f"chmod 600 {path}",
            )
        text = path.read_bytes()[:1024].decode("ascii", "replace")
    except OSError as error:
        raise HubError(
            f"the token file {path} cannot be read: {error.strerror or error}", hint=MAKE_ONE
        ) from error
    return checked_token(text.strip(), source=str(path))


def checked_token(token: str, *, source: str) -> str:
    """``token``, if it is long enough to be one; ``source`` is named, the token never."""
    if not TOKEN.fullmatch(token):
        raise HubError(
            f"{source} holds no usable token: 16 to 512 letters, digits or ._~+/=- are needed",
            hint=MAKE_ONE,
        )
    return token
