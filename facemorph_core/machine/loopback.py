"""Programs of one machine talk to each other directly, whatever proxy leads out of it.

HTTP libraries and gRPC ask the proxy of the environment for 127.0.0.1 too unless `no_proxy` names
it. Each reads that in its own way: gRPC knows the lower-case name alone, and `no_grpc_proxy` before
it; of two that are set Python's libraries take the lower-case one. `::1` is written without its
brackets, which httpx and gRPC could not read.

Run as a program it prints the settings for a shell; it needs the standard library alone.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping

__all__ = ["HOSTS", "past_the_proxy"]

_EXCEPTIONS = ("no_proxy", "NO_PROXY", "no_grpc_proxy")
HOSTS = ("127.0.0.1", "localhost", "::1")
_ALL = "*"
"""Alone it keeps everything from the proxy; beside other names most libraries do not know it."""


def past_the_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` in which loopback is reached directly, and all else as it was.

    >>> past_the_proxy({"http_proxy": "http://proxy:3128", "NO_PROXY": "intra"})["no_proxy"]
    'intra,127.0.0.1,localhost,::1'
    """
    lower, upper = environment.get("no_proxy", ""), environment.get("NO_PROXY", "")
    settings = {"no_proxy": _with_hosts(lower or upper), "NO_PROXY": _with_hosts(upper or lower)}
    if "no_grpc_proxy" in environment:
        settings["no_grpc_proxy"] = _with_hosts(environment["no_grpc_proxy"])
    return {**environment, **settings}


def _with_hosts(said: str) -> str:
    names = [name.strip() for name in said.split(",") if name.strip()]
    if names == [_ALL]:
        return _ALL
    return ",".join([*names, *(host for host in HOSTS if host not in names)])


def _as_exports(environment: Mapping[str, str]) -> str:
    known = past_the_proxy(environment)
    names = (name for name in _EXCEPTIONS if name in known)
    return "\n".join(f"export {name}={shlex.quote(known[name])}" for name in names)


if __name__ == "__main__":
    sys.stdout.write(_as_exports(os.environ))
