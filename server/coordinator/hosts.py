"""Under which names a server can be reached, as a certificate may hold them."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import idna

from facemorph_core.errors import FederationError

__all__ = ["as_address", "checked_host"]

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?:\*\.{_LABEL}\.)?{_LABEL}(?:\.{_LABEL})*")
_LONGEST = 253


def checked_host(host: str) -> str:
    """``host``, if it is the name or the address of one and nothing beside.

    A name in other letters than ASCII becomes what certificates hold: its A-label, xn--....

    Raises:
        FederationError: it has a scheme, a port or a path, or cannot be a name.
    """
    found = _in_ascii(host)
    numbers = found.rpartition(".")[2].isdigit()
    name = _NAME.fullmatch(found) and len(found) <= _LONGEST and not numbers
    if not name and as_address(found) is None:
        raise FederationError(
            f"{host[:80]!r} is no name or address of a host",
            hint=f"without https:// and without a port: --host {_inside(host)}",
        )
    return found


def as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """``host`` as an address, or None if it is a name."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _in_ascii(host: str) -> str:
    """``host`` with its A-labels (RFC 5891), or as it is if it has none."""
    try:
        return host if host.isascii() else idna.encode(host, uts46=True).decode()
    except UnicodeError:
        return host


def _inside(text: str) -> str:
    """The host that is probably meant, or an example."""
    try:
        found = _in_ascii(urlsplit(text if "://" in text else f"//{text}").hostname or "")
    except ValueError:
        found = ""
    usable = _NAME.fullmatch(found) or as_address(found) is not None
    return found if usable and found != text else "flower.example.org"
