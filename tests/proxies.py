"""A proxy that writes down who comes, and answers what it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


@dataclass
class Proxy:
    """Where it listens, and what was asked of it."""

    url: str
    asked: list[bytes] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Every variable that may lead here, and none that leads past."""
        names = [*VARIABLES, *(name.upper() for name in VARIABLES)]
        return dict.fromkeys(names, self.url) | {"no_proxy": "", "NO_PROXY": ""}


@contextlib.contextmanager
def proxy(
    answer: bytes = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
) -> Iterator[Proxy]:
    """One that answers everything with ``answer``."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        made = Proxy(f"http://127.0.0.1:{door.getsockname()[1]}")

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    caller, _ = door.accept()
                    with caller, contextlib.suppress(OSError):
                        caller.settimeout(5)
                        made.asked.append(caller.recv(4096))
                        caller.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield made
        door.shutdown(socket.SHUT_RDWR)  # or accept would keep it open
