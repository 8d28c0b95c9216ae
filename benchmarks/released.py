"""A model as it is handed out: a bundle, run by ONNX Runtime as the morph tool runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.method import Facts, standard_normal
from facemorph_core.bundle import Bundle

__all__ = ["Released", "facts_of"]


@dataclass(frozen=True, eq=False)
class Released:
    """A bundle; the prior of all but a plain autoencoder is N(0, I)."""

    bundle: Bundle
    fit: int = 0
    """Steps that fit each code to its face."""

    @property
    def name(self) -> str:
        return self.bundle.manifest.name

    @cached_property
    def facts(self) -> Facts:
        facts = facts_of(self.bundle)
        return facts.fitted(self.fit) if self.fit else facts

    def encode(
        self, pixels: NDArray[np.uint8], landmarks: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        return self.bundle.encode(pixels, landmarks, fit=self.fit)

    def decode(self, codes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        return self.bundle.decode(codes)

    def sample(self, count: int, *, seed: int) -> NDArray[np.float32] | None:
        if self.bundle.manifest.kind == "ae":
            return None
        return standard_normal(count, self.facts.numbers, seed=seed)


def facts_of(bundle: Bundle) -> Facts:
    """What the bundle says of its last run; a model that this started from is named."""
    manifest = bundle.manifest
    said: Mapping[str, Any] = manifest.training
    config: Mapping[str, Any] = manifest.config
    note, passes = f"{manifest.kind}, {manifest.geometry}; ", said.get("epochs", 0)
    if "rounds" in said:
        passes = said["rounds"] * config["federation"]["local_epochs"]
        note += f"{said['sites']} sites, {said['rounds']} rounds"
    else:
        note += f"{passes} epochs in one place"
    if config.get("start"):
        note += f", from {config['start']}"
    return Facts(
        numbers=manifest.latent_dim,
        parameters=sum(weight.size for weight in bundle.weights().values()),
        images_seen=passes * said.get("examples", 0),
        seconds=said.get("seconds", 0.0),
        note=note,
    )
