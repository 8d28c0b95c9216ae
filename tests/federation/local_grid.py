"""Real client and server apps in one process: no Ray, no network, no waiting.

`LocalGrid` hands each message to a real ClientApp. A test may tamper with any reply, lose it, or
raise in its place, which is what networks, sites and attackers do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from facemorph_core.alignment.frame import mean_shape
from facemorph_core.shards.shard import IndexRow, Shard, write_shard

Tamper = Callable[[Message, Message], Message | None]
"""From (request, reply) to the reply that arrives; None is silence."""


@dataclass
class LocalGrid(Grid):
    """Nodes 1, 2, ... with a ClientApp and settings of their own."""

    apps: dict[int, ClientApp]
    settings: dict[int, dict[str, str | int]]
    run_config: dict[str, str]
    tamper: dict[int, Tamper] = field(default_factory=dict)
    rounds_asked: list[int] = field(default_factory=list)
    received: list[RecordDict] = field(default_factory=list)
    """What came from the nodes, whole."""
    waiting: dict[str, Message] = field(default_factory=dict)
    registered: dict[int, str] = field(default_factory=dict)
    """Names that belong to the nodes' keys."""

    def __post_init__(self) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1

    def get_node_ids(self) -> Iterable[int]:
        return list(self.apps)

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=n, name=self.registered.get(n)) for n in self.get_node_ids()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Every node answers at once; its reply waits to be fetched."""
        ids = []
        for message in map(as_received, messages):
            ids.append(message.metadata.message_id)
            reply = self._answer(message)
            if reply is not None:
                self.waiting[ids[-1]] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """What Flower cannot make a message of costs all that were asked for with it."""
        replies = [self.waiting.pop(each) for each in message_ids if each in self.waiting]
        if any("unreadable" in vars(reply) for reply in replies):
            raise ValueError("Unexpected set of `children`.")
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        raise AssertionError("a server that waits for all replies holds them all")

    def _answer(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        self.rounds_asked.append(int(message.content["config"]["server-round"]))
        context = Context(1, node, dict(self.settings[node]), RecordDict(), dict(self.run_config))
        reply: Message | None = self.apps[node](message, context)
        if node in self.tamper:
            reply = self.tamper[node](message, reply)
        if reply is not None:
            self.received.append(reply.content if reply.has_content() else RecordDict())
        return reply

    def set_run(self, run: object) -> None:
        raise AssertionError("not used")

    @property
    def run(self) -> object:
        raise AssertionError("not used")

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise AssertionError("not used")


def as_received(message: Message) -> Message:
    """A node's own copy with an id, as it would come over a network."""
    copy = Message(
        content=RecordDict(dict(message.content)),
        message_type=message.metadata.message_type,
        dst_node_id=message.metadata.dst_node_id,
    )
    copy.metadata.__dict__["_message_id"] = copy.object_id
    return copy


def soft_faces(count: int, size: int, *, seed: int) -> np.ndarray:
    """Smooth coloured blobs (count, size, size, 3) uint8: something an autoencoder can learn."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    colours = rng.uniform(40, 255, (count, 1, 1, 3))
    centres = rng.uniform(0.35, 0.65, (count, 2, 1, 1))
    blobs = np.exp(-((x - centres[:, 0]) ** 2 + (y - centres[:, 1]) ** 2) / 0.05)
    return (colours * blobs[..., None]).astype(np.uint8)


def tiny_shard(path: Path, *, count: int = 12, size: int = 32, seed: int = 0) -> Shard:
    """A shard of `soft_faces`: two photos a person, the last third of them kept aside as val."""
    index = [
        IndexRow(
            person=f"p{i // 2}",
            split="train" if i < count * 2 // 3 else "val",
            digest=hashlib.sha256(f"{path.name}, photo {i}".encode()).hexdigest(),
        )
        for i in range(count)
    ]
    away = np.random.default_rng(seed).normal(scale=size / 64, size=(count, 68, 2))
    landmarks = (mean_shape(size) + away).astype(np.float32)
    return write_shard(path, soft_faces(count, size, seed=seed), landmarks, index)


FEW = "min_trained_photos: 1\nmin_trained_people: 1\n"
"""What a site with a tiny shard must allow."""
OPEN = f"privacy: optional\nscoring: plain\nmin_scored_people: 1\n{FEW}"
"""The limits of a site that allows what most tests need."""


def site_settings(folder: Path, number: int, *, limits: str = OPEN) -> dict[str, str]:
    """The ``--node-config`` of site ``number``, whose shard and limits lie in ``folder``."""
    state = folder / f"shard-{number}.state"
    state.mkdir(exist_ok=True)
    (state / "site.yaml").write_text(limits)
    return {
        "data-dir": str(folder / f"shard-{number}"),
        "head-dir": str(folder / "heads"),
        "site": f"clinic-{number}",
    }


TINY = {
    "name": "tiny",
    "model": {"kind": "vae", "image_size": 32, "width": 8, "latent_dim": 8},
    "loss": {"l1": 1.0, "kl": 1e-4},
    "training": {"batch_size": 4, "learning_rate": 3e-3, "precision": "float32"},
    "federation": {"rounds": 2, "sites": 3, "quorum": 2, "join_deadline": 1},
    "evaluation": {"faces": "none", "samples": 4},
}


def write_config(path: Path, **sections: object) -> Path:
    """`TINY` with sections merged in, as a YAML file."""
    values = {**TINY}
    for name, value in sections.items():
        old = values.get(name)
        values[name] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    path.write_text(yaml.safe_dump(values))
    return path
