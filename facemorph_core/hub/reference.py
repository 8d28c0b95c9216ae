"""How a model at a hub is called: ``hub://host:port/name@version``.

Convention:
    | hub://host:port/name@3       version 3, over TLS
    | hub://host:port/name@latest  the newest version; so does the name alone
    | hub://host:port/name@3#DIGEST  version 3 with this SHA-256 (64 hexadecimal digits), or nothing
    | hub+insecure://host:port/... plain text, for a hub on this very machine (loopback) only
    The port is 8765 where none is given. Names hold letters, digits, dot, dash and underscore,
    begin with a letter or a digit and are at most 64 long: each is also a folder's name.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from facemorph_core.errors import InvalidReference

__all__ = ["HubAddress", "HubReference", "checked_name", "is_loopback", "split_host_port"]

DEFAULT_PORT = 8765
LATEST = 0
"""The version that stands for the newest, in code and on the wire."""

SCHEMES = {"hub": False, "hub+insecure": True}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL = "[A-Za-z0-9-]{1,63}"
HOST = re.compile(rf"(?=[A-Za-z0-9])(?!.{{254}}){_LABEL}(?:\.{_LABEL})*\.?")
"""None that the name system could not even be asked for."""
VERSION = re.compile(r"[1-9][0-9]{0,8}")
SHA256 = re.compile(r"[0-9a-f]{64}")
HINT = "a reference reads hub://HOST:PORT/NAME@latest or hub://HOST:PORT/NAME@3"


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where a hub listens. ``plain_text`` was asked for and is loopback."""

    host: str
    port: int = DEFAULT_PORT
    plain_text: bool = False

    def __post_init__(self) -> None:
        if self.plain_text and not self.is_loopback:
            raise InvalidReference(
                f"plain text is for a hub on this machine, and {self.host} is another",
                hint="use hub:// (TLS)",
            )

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)

    @property
    def folder(self) -> str:
        """A folder's name for what came from there."""
        return f"{self.host.replace(':', '-')}_{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the hub is on this machine and its bytes cross no network."""
        return is_loopback(self.host)

    @classmethod
    def of(cls, text: str) -> HubAddress:
        """The address in the reference of a model, or in one of its own."""
        scheme, address, _ = _split(text if "://" in text else f"hub://{text}")
        return _address(scheme, address)

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """``hub://host:port``, ``hub+insecure://host:port`` or ``host:port``."""
        scheme, address, path = _split(text if "://" in text else f"hub://{text}")
        if path.strip("/"):
            raise InvalidReference(f"'{text}' names a model; an address is needed here", hint=HINT)
        return _address(scheme, address)


@dataclass(frozen=True, slots=True)
class HubReference:
    """A model at a hub; version 0 is the newest. With a digest it is pinned to these bytes."""

    address: HubAddress
    name: str
    version: int = LATEST
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.version or 'latest'} at {self.address}"

    @property
    def url(self) -> str:
        """The text that `parse` reads."""
        scheme = "hub+insecure" if self.address.plain_text else "hub"
        pin = f"#{self.sha256}" if self.sha256 else ""
        return f"{scheme}://{self.address}/{self.name}@{self.version or 'latest'}{pin}"

    @classmethod
    def parse(cls, text: str) -> HubReference:
        """The reference that ``text`` spells.

        Raises:
            InvalidReference: with what is wrong about it.

        >>> HubReference.parse("hub://models.example.org/faces@3").version
        3
        """
        scheme, address, path = _split(text)
        model, hash_sign, digest = path.removeprefix("/").partition("#")
        name, at, version = model.partition("@")
        number = _version(version, text) if at else LATEST
        pin = _digest(digest, number) if hash_sign else ""
        return cls(_address(scheme, address), checked_name(name), number, pin)


def checked_name(name: str) -> str:
    """``name``, if a model may be called so."""
    if not NAME.fullmatch(name):
        raise InvalidReference(
            f"{name[:80]!r} cannot be the name of a model",
            hint="letters, digits, dot, dash and underscore, at most 64, a letter or digit first",
        )
    return name


def split_host_port(text: str) -> tuple[str, int | None]:
    """``host``, ``host:port`` or ``[ipv6]:port`` as its parts."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidReference(f"'{text}' is not an address: {error}") from None
    if parts.netloc != text or "@" in text or not (HOST.fullmatch(host) or _is_ip(host)):
        raise InvalidReference(f"'{text}' is not an address", hint="write HOST:PORT")
    return host, port


def join_host_port(host: str, port: int) -> str:
    """The parts as one text again."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine itself: 127.0.0.0/8, ::1 or localhost."""
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _split(text: str) -> tuple[str, str, str]:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in SCHEMES:
        raise InvalidReference(f"'{text}' is not a reference to a model hub", hint=HINT)
    address, slash, path = rest.partition("/")
    return scheme, address, slash + path


def _address(scheme: str, text: str) -> HubAddress:
    host, port = split_host_port(text)
    return HubAddress(host, port or DEFAULT_PORT, SCHEMES[scheme])


def _version(text: str, reference: str) -> int:
    if text == "latest":
        return LATEST
    if not VERSION.fullmatch(text):
        raise InvalidReference(f"'{reference}' has no version: '{text}' is not a number", hint=HINT)
    return int(text)


def _digest(text: str, version: int) -> str:
    if not SHA256.fullmatch(text.lower()):
        raise InvalidReference(
            "what stands behind '#' is no SHA-256: 64 hexadecimal digits are needed",
            hint="`facemorph-core hub list HUB` prints references with theirs",
        )
    if version == LATEST:
        raise InvalidReference("a SHA-256 pins one version", hint="write NAME@3#SHA256")
    return text.lower()
