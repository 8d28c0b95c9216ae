"""The proxy through which gRPC reaches a host, and one connection of our own on the same way.

gRPC knows HTTP proxies alone, by these variables in lower case, and asks for a tunnel (CONNECT).
"""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from facemorph_core.errors import HubUnreachable, HubUnusable
from facemorph_core.hub.reference import HubAddress, join_host_port
from facemorph_core.printable import printable

__all__ = ["connection"]

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
HTTP_PORT = 80


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it listens, which variable says so, and who we are to it."""

    host: str
    port: int
    variable: str
    user: str

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


def connection(address: HubAddress, *, seconds: float) -> socket.socket:
    """A connection to the hub as gRPC would make it, which waits so long for each step.

    Raises:
        HubUnreachable: with what stands in the way.
    """
    proxy = proxy_for(address)
    if proxy is None:
        return _open(address.host, address.port, seconds, f"the hub {address}", _ADVICE)
    advice = (
        f"${proxy.variable} names it; if the hub needs no proxy, add {address.host} to $no_proxy"
    )
    line = _open(proxy.host, proxy.port, seconds, f"the proxy {proxy}", advice)
    try:
        _tunnel(line, proxy, address, advice)
    except BaseException:
        line.close()
        raise
    return line


def proxy_for(address: HubAddress) -> Proxy | None:
    """The proxy on the way to the hub, if there is one; to this machine there is none."""
    variable = next((name for name in VARIABLES if os.environ.get(name)), None)
    if variable is None or address.is_loopback or _is_excepted(address.host):
        return None
    said = os.environ[variable]
    try:
        parts = urlsplit(said if "://" in said else f"http://{said}")
        host, port = parts.hostname, parts.port or HTTP_PORT
    except ValueError:
        return None
    if parts.scheme != "http" or not host:
        return None  # gRPC goes without it, too
    return Proxy(host, port, variable, _user(parts))


_ADVICE = "check the address, and that the hub is running"


def _open(host: str, port: int, seconds: float, what: str, advice: str) -> socket.socket:
    try:
        return socket.create_connection((host, port), seconds)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise HubUnreachable(
                f"{what} cannot be reached: the name {host} cannot be looked up now",
                hint="is this machine connected?",
            ) from error
        raise HubUnusable(
            f"{what} cannot be reached: there is no host {host}",
            hint="check how it is written",
        ) from error
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


def _tunnel(line: socket.socket, proxy: Proxy, address: HubAddress, advice: str) -> None:
    request = f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n"
    if proxy.user:
        request += f"Proxy-Authorization: Basic {proxy.user}\r\n"
    said = b""
    try:
        line.sendall(f"{request}\r\n".encode())
        while b"\r\n\r\n" not in said and len(said) < 2**16 and (more := line.recv(1)):
            said += more  # byte by byte: what follows is the hub's
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
    said = next((os.environ[name] for name in EXCEPTIONS if os.environ.get(name)), "")
    return any(_is_in(host.lower(), name.strip().lower()) for name in said.split(",") if name)


def _is_in(host: str, name: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return bool(name) and host.endswith(name)


def _user(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    named = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return base64.b64encode(named.encode()).decode()
