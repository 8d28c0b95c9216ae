"""The read token of a hub: a secret that a hub has in a file, and its readers with its address.

A reader's tokens are written ``HOST:PORT=TOKEN``, separated by spaces or lines, for a token is sent
to the hub that it is for and to no other. Only a file that is named for one call may hold the token
alone, as the hub's own file does.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from facemorph_core.disk.private import has_modes
from facemorph_core.errors import HubError, InvalidReference
from facemorph_core.hub.reference import HubAddress, join_host_port, split_host_port

__all__ = ["bound_token", "checked_token", "read_token_file", "read_tokens", "token_for"]

TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
MOST_BYTES = 64 * 2**10
MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))' > FILE && chmod 600 FILE"


def read_token_file(path: Path) -> str:
    """The token that ``path`` holds alone."""
    return checked_token(read_tokens(path), source=str(path))


def token_for(path: Path, address: HubAddress) -> str:
    """The token for the hub at ``address`` in a file that was named together with it.

    Raises:
        HubError: the file cannot be used, or its tokens are for other hubs.
    """
    text = read_tokens(path)
    if TOKEN.fullmatch(text):
        return text
    found = bound_token(text, address, source=str(path))
    if found is None:
        raise HubError(f"{path} holds no token for {address}", hint=f"add {address}=TOKEN to it")
    return found


def bound_token(text: str, address: HubAddress, *, source: str) -> str | None:
    """The token for the hub at ``address`` among ``HOST:PORT=TOKEN``, or None.

    Raises:
        HubError: naming ``source``, never a token, if one of them names no hub.
    """
    found = None
    for entry in text.split():
        where, bound, token = entry.partition("=")
        hub = _hub(where if bound else "", source)
        usable = checked_token(token, source=source)
        found = usable if hub == str(address) else found
    return found


def read_tokens(path: Path) -> str:
    """The text of ``path``, which nobody but its owner may read."""
    try:
        if has_modes() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise HubError(
                f"others on this machine may read the token file {path}",
                hint=f"chmod 600 {path}",
            )
        return path.read_bytes()[:MOST_BYTES].decode("ascii", "replace").strip()
    except OSError as error:
        raise HubError(
            f"the token file {path} cannot be read: {error.strerror or error}", hint=MAKE_ONE
        ) from error


def checked_token(token: str, *, source: str) -> str:
    """``token``, if it is long enough to be one; ``source`` is named, the token never."""
    if not TOKEN.fullmatch(token):
        raise HubError(
            f"{source} holds no usable token: 16 to 512 letters, digits or ._~+/=- are needed",
            hint=MAKE_ONE,
        )
    return token


def _hub(text: str, source: str) -> str:
    """``HOST:PORT`` as a `HubAddress` writes it. The text may be a secret, and is not repeated."""
    try:
        host, port = split_host_port(text)
    except InvalidReference:
        port = None
    if port is None:
        raise HubError(
            f"{source} does not say for which hub its token is",
            hint="write HOST:PORT=TOKEN, for example models.example.org:8765=TOKEN; several are "
            "separated by spaces or lines",
        )
    return join_host_port(host, port)
