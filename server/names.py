"""What sites are called: as their key was registered, else as they wish; never two the same."""

from __future__ import annotations

import re
from collections.abc import Iterable

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo

from server.replies import site_name

SERVER = "the server"
"""Who is named where no site is to blame; no site may call itself so."""
_OURS = re.compile(r"\bnode \d")
"""What we add to tell sites apart, which a name of one's own does not hold."""


class SiteNames:
    """The names of one run's sites.

    ``flwr supernode register KEY --name NAME`` binds a name to a key: such a site has it before it
    ever answers, and no other can take it. The others are called what they call themselves.
    """

    def __init__(self) -> None:
        self._registered: dict[int, str] = {}
        self._chosen: dict[int, str] = {}

    def see(self, nodes: Iterable[NodeInfo]) -> None:
        """Take in under which names the keys of those who are here were registered.

        Who is away keeps a name until another key was registered under it.
        """
        here = {node.node_id: node.name for node in nodes if node.name}
        away = {n: name for n, name in self._registered.items() if name not in here.values()}
        self._registered = away | here

    def note(self, node: int, reply: Message) -> None:
        """Remember what the site calls itself, if it does."""
        name = site_name(reply)
        if name is not None and name != SERVER and not _OURS.search(name):
            self._chosen[node] = name

    def of(self, node: int) -> str:
        """The name, with the node's number where another one has as good a right to it."""
        bound, name = self._registered, self._registered.get(node)
        others = [each for number, each in bound.items() if number != node]
        if name is None:
            name = self._chosen.get(node, f"node {node}")
            others += [
                each for number, each in self._chosen.items() if number not in (node, *bound)
            ]
        return f"{name} (node {node})" if name in others else name

    def order(self, node: int) -> tuple[str, int]:
        """A key to sort nodes by: names outlive a restart, numbers need not."""
        return self.of(node), node
