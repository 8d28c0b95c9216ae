"""Replies as they arrive: each is handed over at once, so that a round never holds them all.

Flower's own `send_and_receive` collects every reply before anybody may look at one, and looks for
new ones every three seconds. It fetches them together, so that one of which Flower can make no
message costs those that were fetched with it; and it believes what a reply says of its sender. Here
each is fetched alone, and is the reply of the node that was asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

log = logging.getLogger("flwr")
_POLL_SECONDS = 0.2
UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(RecursionError, MemoryError, DecodeError),
)
"""What Flower raises over bytes that are no message; a network that fails raises other things."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A grid that gives each reply to ``take``, with the node that was asked.

    None stands for a reply of which no message can be made. Nothing is left for Flower to keep.
    """

    grid: Grid
    take: Callable[[int, Message | None], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def get_node_ids(self) -> Iterable[int]:
        return self.grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        return self.grid.get_nodes()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send ``messages`` and wait for their replies, no longer than ``timeout`` seconds."""
        began = self.clock()
        asked = list(messages)
        if not asked:
            return []  # Flower refuses a request without a message
        nodes = [message.metadata.dst_node_id for message in asked]
        sent = zip(self.grid.push_messages(asked), nodes, strict=False)
        waiting = {str(each): node for each, node in sent if each}
        del messages, asked
        while waiting:
            for each, node in sorted(waiting.items()):
                if self._fetched(each, node):
                    del waiting[each]
            if not waiting or (timeout is not None and self.clock() - began >= timeout):
                break
            self.sleep(_POLL_SECONDS)
        return []

    def as_grid(self) -> Grid:
        """This, as far as a strategy asks for one."""
        return cast(Grid, self)

    def _fetched(self, message_id: str, node: int) -> bool:
        """Whether the reply to a message is here; it was handed over if it is."""
        try:
            replies = list(self.grid.pull_messages([message_id]))
        except UNREADABLE as error:
            log.warning("the reply of node %d is no message", node, exc_info=error)
            self.take(node, None)
            return True
        for reply in replies[:1]:
            self.take(node, reply)
        return bool(replies)
