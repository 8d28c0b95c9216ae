"""A proxy that writes down who comes, and refuses them or leads them to one place."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
HANGING_SECONDS = 300.0
"""After which a test hangs, on however slow a machine."""


@dataclass
class Proxy:
    """Where it listens, and what was asked of it."""

    url: str
    asked: list[bytes] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Every variable that may lead here, and none that leads past."""
        names = [*VARIABLES, *(name.upper() for name in VARIABLES)]
        return dict.fromkeys(names, self.url) | {
            "no_proxy": "",
            "NO_PROXY": "",
            "no_grpc_proxy": "",
        }


@contextlib.contextmanager
def proxy(refusal: str = "403 Forbidden", *, leads_to: int | None = None) -> Iterator[Proxy]:
    """One that refuses everything, or connects everybody with port ``leads_to`` of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        made = Proxy(f"http://127.0.0.1:{door.getsockname()[1]}")

        def serve(caller: socket.socket) -> None:
            with caller, contextlib.suppress(OSError):
                caller.settimeout(HANGING_SECONDS)
                made.asked.append(caller.recv(4096))
                if leads_to is None:
                    caller.sendall(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
                    return
                with socket.create_connection(("127.0.0.1", leads_to)) as hub:
                    caller.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    back = threading.Thread(target=_pass_on, args=(hub, caller), daemon=True)
                    back.start()
                    _pass_on(caller, hub)
                    back.join(HANGING_SECONDS)

        def wait() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()

        threading.Thread(target=wait, daemon=True).start()
        yield made
        door.shutdown(socket.SHUT_RDWR)  # or accept would keep it open


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
