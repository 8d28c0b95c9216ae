"""Where this node keeps its things: its shard of faces and what must last between rounds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from facemorph_core.config import RunConfig
from facemorph_core.disk.cache import cache_dir, user_folder
from facemorph_core.disk.private import is_open_to_others, private_folder
from facemorph_core.disk.records import write_atomic
from facemorph_core.errors import ShardError
from facemorph_core.learning.privacy import Heads, SiteLedger, SiteLimits, load_limits
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.partition import site_view
from facemorph_core.shards.shard import Shard

log = logging.getLogger("flwr")


@dataclass(frozen=True, slots=True)
class Site:
    """A data-holding node. Both folders are on this machine and never leave it."""

    name: str
    """What others may call this site."""
    shard: Shard
    state: Path
    """What lasts across runs: the privacy ledger of these photos."""
    run_state: Path
    """What lasts across the rounds of one run: the discriminator, what the codec lost."""
    limits: SiteLimits
    """What this site allows, whatever a run asks for."""
    heads: Path
    """Where the ledger's head is kept: not beside the ledger."""

    @classmethod
    def of(cls, context: Context, config: RunConfig, *, run_id: str) -> Site:
        """The site that this node is: its ``--node-config``, or its part of a simulation.

        Raises:
            ShardError: if the node's settings name no usable shard.
        """
        settings = context.node_config
        if "data-dir" in settings:
            data = _absolute(settings["data-dir"], "data-dir")
            state = _absolute(settings.get("state-dir", f"{data}.state"), "state-dir")
            name = str(settings.get("site", f"site-{context.node_id}"))
            file = _absolute(settings.get("limits", f"{state}/site.yaml"), "limits")
            kept = settings["head-dir"] if "head-dir" in settings else _ledger_heads()
            site = cls(
                name,
                Shard.open(data),
                state,
                state / run_id,
                load_limits(file, needed="limits" in settings),
                _absolute(kept, "head-dir"),
            )
        elif "partition-id" in settings:
            number, sites = int(settings["partition-id"]), int(settings["num-partitions"])
            base = shard_for(config.data, seed=config.seed)
            view = site_view(base, config.data, site=number, sites=sites, seed=config.seed)
            # A simulated site lives as long as its run: the ledger starts with the run too.
            state = cache_dir() / "simulations" / run_id / view.path.name
            limits = SiteLimits.of_a_simulation()
            site = cls(state.name, view, state, state, limits, state / "ledgers")
        else:
            raise ShardError(
                "this node was given no shard",
                hint="start it with --node-config 'data-dir=\"/absolute/path/of/the/shard\"'",
            )
        private_folder(site.run_state)
        if "data-dir" in settings:
            for folder in filter(is_open_to_others, (site.shard.path, site.state)):
                log.warning("every user of this machine may look into %s", folder)
                log.warning(" hint: chmod -R go= %s", folder)
        return site

    @property
    def ledger(self) -> SiteLedger:
        """What was released about this site's photos, over all runs."""
        return SiteLedger(self.state / "privacy.jsonl", Heads(self.heads))

    @property
    def discriminator(self) -> Path:
        """The discriminator of this run; it is trained here and stays here."""
        return self.run_state / "discriminator.safetensors"

    @contextmanager
    def lost_before(self, number: int) -> Iterator[dict[str, NDArray[np.float32]]]:
        """What the codec lost in the rounds before ``number``; changed inside, it is kept.

        A round that is asked for again starts from what its first try started from.
        """
        lost = {int(file.stem.split("-")[1]): file for file in self.run_state.glob("lost-*")}
        before = max((earlier for earlier in lost if earlier < number), default=None)
        arrays = {} if before is None else load_file(lost[before])
        yield arrays
        if not arrays:
            return
        file = self.run_state / f"lost-{number:04d}.safetensors"
        write_atomic(file, save(arrays), private=True)
        for earlier, file in lost.items():
            if earlier not in (before, number):
                file.unlink(missing_ok=True)


def _ledger_heads() -> Path:
    """Where heads are kept unless the node's settings say another place."""
    try:
        return user_folder("data") / "ledgers"
    except RuntimeError:
        raise ShardError(
            "this user has no home to keep the ledger's head in",
            hint="name a folder that lasts: --node-config '... head-dir=\"/absolute/path\"'",
        ) from None


def _absolute(value: object, setting: str) -> Path:
    path = Path(str(value))
    if not path.is_absolute():
        raise ShardError(
            f"{setting} must be an absolute path (got {value!r})",
            hint="a node's working directory is not the operator's",
        )
    return path
