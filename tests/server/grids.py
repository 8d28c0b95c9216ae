"""Grids and clocks for tests of the server: what nodes answer is told beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo

Answer = Message | Callable[[Message], Message | None] | None


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds


class Answers:
    """A grid whose nodes answer at once, whoever is first in ``answers`` is first.

    An answer may be made of the question; then None is silence. As an answer of its own it is one
    of which Flower can make no message.
    """

    def __init__(self, answers: Mapping[int, Answer]) -> None:
        self.answers = answers
        self.asked: list[Message] = []
        self._open: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        return list(self.answers)

    def get_nodes(self) -> list[NodeInfo]:
        return [NodeInfo(node_id=node) for node in self.answers]

    def push_messages(self, messages: Iterable[Message]) -> Iterator[str]:
        for message in messages:
            self.asked.append(message)
            place = list(self.answers).index(message.metadata.dst_node_id)
            self._open[f"{place:04}"] = message
            yield f"{place:04}"

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        [each] = ids
        question = self._open[each]
        answer = self.answers[question.metadata.dst_node_id]
        if answer is None:
            raise ValueError("no message")
        given = answer(question) if callable(answer) else answer
        return [] if given is None else [given]
