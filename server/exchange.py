"""One exchange with the sites: a question to each, and each answer taken as it arrives.

A round is made of such exchanges, of two today: to train, and to score. Flower's own
`send_and_receive` collects every reply before anybody may look at one, and looks for new ones every
three seconds. It fetches them together, so that one of which Flower can make no message costs those
that were fetched with it; and it believes what a reply says of its sender. Here each is fetched
alone, is the reply of the node that was asked, and is gone before the next one is fetched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from flwr.app import Message
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

from facemorph_core.errors import FederationError, OutputError

log = logging.getLogger("flwr")
Take = Callable[[int, Message], None]
"""Takes the reply of a node; what it raises is that node's fault, but for a full disk of ours."""
_POLL_SECONDS = 0.2
_UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(RecursionError, MemoryError, DecodeError),
)
"""What Flower raises over bytes that are no message; a network that fails raises other things."""


class Clock(Protocol):
    """What tells the time and lets it pass: the module `time`."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


def exchange(
    grid: Grid,
    nodes: Sequence[int],
    message_of: Callable[[int], Message],
    take: Take,
    deadline: float,
    *,
    about: str = "",
    clock: Clock = time,
) -> dict[int, str]:
    """Ask ``nodes``, each with its message, and ``take`` what they answer within ``deadline`` s.

    Returns:
        Why a node's reply does not count, with ``about`` before it, or that none came.

    Raises:
        OSError, OutputError: our own disk is full; no node is to blame.
        grpc.RpcError: the network fails.
    """
    began = clock.monotonic()
    faults: dict[int, str] = {}
    silent = set(nodes)
    waiting = _sent(grid, nodes, message_of)
    while waiting:
        for message_id, node in sorted(waiting.items()):
            came, fault = _fetched(grid, message_id, node, take)
            if came:
                del waiting[message_id]
                silent.discard(node)
            if fault:
                faults[node] = f"{about}{fault}"
        if not waiting or clock.monotonic() - began >= deadline:
            break
        clock.sleep(_POLL_SECONDS)
    return faults | dict.fromkeys(sorted(silent), f"no answer within {deadline:g} s")


def _sent(grid: Grid, nodes: Sequence[int], message_of: Callable[[int], Message]) -> dict[str, int]:
    """Nodes by the ids of the messages that are on their way to them."""
    if not nodes:
        return {}  # Flower refuses a request without a message
    ids = grid.push_messages([message_of(node) for node in nodes])
    return {str(each): node for each, node in zip(ids, nodes, strict=False) if each}


def _fetched(grid: Grid, message_id: str, node: int, take: Take) -> tuple[bool, str]:
    """Whether the reply to a message is here, and what is wrong with it; it was taken if it is."""
    try:
        replies = list(grid.pull_messages([message_id]))
    except _UNREADABLE as error:
        log.warning("the reply of node %d is no message", node, exc_info=error)
        return True, "the reply cannot be read"
    try:
        for reply in replies[:1]:
            take(node, reply)
    except FederationError as error:
        return True, str(error)
    except (OSError, OutputError):
        raise  # our own disk is full; no reply fills it
    except Exception as error:
        log.warning("the reply of node %d", node, exc_info=error)
        return True, f"the reply cannot be read ({type(error).__name__})"
    return bool(replies), ""
