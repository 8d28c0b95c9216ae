"""What sites are called: as they wish, told apart where they wish the same."""

from __future__ import annotations

from flwr.app import Message

from server.replies import site_name


class SiteNames:
    """The names of one run's sites."""

    def __init__(self) -> None:
        self._chosen: dict[int, str] = {}

    def note(self, node: int, reply: Message) -> None:
        """Remember what the site calls itself, if it does."""
        name = site_name(reply)
        if name is not None:
            self._chosen[node] = name

    def of(self, node: int) -> str:
        """The chosen name, with the node's number where another one chose it too."""
        name = self._chosen.get(node)
        if name is None:
            return f"node {node}"
        shared = sum(each == name for each in self._chosen.values()) > 1
        return f"{name} (node {node})" if shared else name

    def order(self, node: int) -> tuple[str, int]:
        """A key to sort nodes by: names outlive a restart, numbers need not."""
        return self.of(node), node
