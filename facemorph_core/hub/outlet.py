"""The proxy through which gRPC reaches a host, and one connection of our own on the same way.

gRPC knows HTTP proxies alone, by these variables in lower case, and asks for a tunnel (CONNECT). Of
them it reads the first that is set, even to nothing.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from facemorph_core.errors import HubUnreachable, HubUnusable
from facemorph_core.hub.reference import HubAddress, join_host_port
from facemorph_core.machine.printable import printable

__all__ = ["Deadline", "connection"]

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
PORT = 443
"""Of a proxy that names none; gRPC takes it for http:// too."""
MOST_SAID = 2**16


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it listens, which variable says so, and who we are to it."""

    host: str
    port: int
    variable: str
    user: str

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


class Deadline:
    """Until when one look at a hub may last, however slowly it says what it says."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; TimeoutError if there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def read(self, line: socket.socket, most: int) -> bytes:
        """What comes next, if it comes in time."""
        line.settimeout(self.left())
        return line.recv(most)


def connection(address: HubAddress, deadline: Deadline) -> socket.socket:
    """A connection to the hub as gRPC would make it.

    Raises:
        HubUnreachable: with what stands in the way.
    """
    proxy = proxy_for(address)
    if proxy is None:
        return _open(address.host, address.port, deadline, f"the hub {address}", _ADVICE)
    advice = (
        f"${proxy.variable} names it; if the hub needs no proxy, add {address.host} to $no_proxy"
    )
    line = _open(proxy.host, proxy.port, deadline, f"the proxy {proxy}", advice)
    try:
        _tunnel(line, proxy, address, deadline, advice)
    except BaseException:
        line.close()
        raise
    return line


def proxy_for(address: HubAddress) -> Proxy | None:
    """The proxy on the way to the hub, if there is one; to this machine there is none."""
    return None if address.is_loopback else proxy_of_environment(address.host)


def proxy_of_environment(host: str) -> Proxy | None:
    """The one through which gRPC reaches ``host`` unless it is told to use none."""
    variable = _first_set(VARIABLES)
    if variable is None or _is_excepted(host):
        return None
    try:
        parts = urlsplit(os.environ[variable])
        name, port = parts.hostname, parts.port or PORT
    except ValueError:
        return None
    if parts.scheme != "http" or not name:
        return None  # gRPC goes without it, too
    return Proxy(name, port, variable, _user(parts))


_ADVICE = "check the address, and that the hub is running"


def _open(host: str, port: int, deadline: Deadline, what: str, advice: str) -> socket.socket:
    try:
        return socket.create_connection((host, port), deadline.left())
    except (socket.gaierror, UnicodeError) as error:
        raise _about_name(host, what, error) from error
    except ConnectionRefusedError as error:
        raise HubUnreachable(
            f"{what} cannot be reached: nothing listens on port {port} of {host}", hint=advice
        ) from error
    except TimeoutError as error:
        raise HubUnreachable(
            f"{what} cannot be reached: {host} does not answer",
            hint=f"{advice}; a firewall may be in between",
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise HubUnreachable(f"{what} cannot be reached: {reason}", hint=advice) from error


def _about_name(host: str, what: str, error: socket.gaierror | UnicodeError) -> HubUnreachable:
    if isinstance(error, UnicodeError) or error.errno == socket.EAI_NONAME:
        return HubUnusable(
            f"{what} cannot be reached: there is no host {host}",
            hint="check how it is written",
        )
    return HubUnreachable(
        f"{what} cannot be reached: the name {host} cannot be looked up now ({error.strerror})",
        hint="is this machine connected?",
    )


def _tunnel(
    line: socket.socket, proxy: Proxy, address: HubAddress, deadline: Deadline, advice: str
) -> None:
    request = f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n"
    if proxy.user:
        request += f"Proxy-Authorization: Basic {proxy.user}\r\n"
    said = b""
    try:
        line.sendall(f"{request}\r\n".encode())
        while b"\r\n\r\n" not in said and len(said) < MOST_SAID:
            more = deadline.read(line, 1)  # byte by byte: what follows is the hub's
            if not more:
                break
            said += more
    except TimeoutError as error:
        raise HubUnreachable(f"the proxy {proxy} does not answer", hint=advice) from error
    except OSError:
        pass
    first = printable(said.partition(b"\r\n")[0].decode("ascii", "replace"), longest=60)
    protocol, _, answer = first.partition(" ")
    if not protocol.startswith("HTTP/"):
        raise HubUnusable(f"what answers at {proxy} is no proxy", hint=advice)
    if not answer.startswith("2"):
        kind = HubUnreachable if answer.startswith("5") else HubUnusable
        raise kind(f"the proxy {proxy} refuses the way to the hub {address}: {answer}", hint=advice)


def _is_excepted(host: str) -> bool:
    variable = _first_set(EXCEPTIONS)
    said = os.environ[variable].split(",") if variable else []
    return any(_is_in(host.lower(), name.strip().lower()) for name in said)


def _is_in(host: str, name: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        domain = name.lstrip(".")
        return bool(domain) and f".{host}".endswith(f".{domain}")


def _first_set(names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in os.environ), None)


def _user(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    named = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return base64.b64encode(named.encode()).decode()
