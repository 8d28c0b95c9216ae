"""Replies as they arrive: each is handed over at once, so that a round never holds them all.

Flower's own `send_and_receive` collects every reply before anybody may look at one, and looks for
new ones every three seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from flwr.app import Message
from flwr.serverapp import Grid

_POLL_SECONDS = 0.2
AT_ONCE = 4
"""Replies that are fetched together."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A grid that gives each reply to ``take`` and goes on with what that returns."""

    grid: Grid
    take: Callable[[Message], Message]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def get_node_ids(self) -> Iterable[int]:
        return self.grid.get_node_ids()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send ``messages`` and wait for their replies, no longer than ``timeout`` seconds."""
        began = self.clock()
        waiting = {str(each) for each in self.grid.push_messages(messages) if each}
        del messages
        taken: list[Message] = []
        while waiting:
            asked = sorted(waiting)
            for first in range(0, len(asked), AT_ONCE):
                for reply in self.grid.pull_messages(asked[first : first + AT_ONCE]):
                    waiting.discard(reply.metadata.reply_to_message_id)
                    taken.append(self.take(reply))
            if not waiting or (timeout is not None and self.clock() - began >= timeout):
                break
            self.sleep(_POLL_SECONDS)
        return taken

    def as_grid(self) -> Grid:
        """This, as far as a strategy asks for one."""
        return cast(Grid, self)
