"""The discriminator of one site with its optimiser: trained here, kept here, never sent."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from facemorph_core.config.schema import RunConfig, VAEGANConfig
from facemorph_core.errors import ModelError
from facemorph_core.learning.losses import terms as losses
from facemorph_core.learning.models import Discriminator, build_discriminator
from facemorph_core.learning.training.checkpoint import (
    Named,
    load_tensors,
    optimiser_tensors,
    prefixed,
    restore_optimiser,
    save_tensors,
    under,
)
from facemorph_core.learning.training.optimiser import adam


@dataclass
class DiscriminatorState:
    """Network and optimiser. Training changes both in place."""

    network: Discriminator
    optimiser: torch.optim.Optimizer

    @classmethod
    def fresh(cls, config: RunConfig, *, seed: int) -> DiscriminatorState:
        """Untrained, from ``seed`` alone."""
        if not isinstance(config.model, VAEGANConfig):
            raise ValueError(f"a model of kind '{config.model.kind}' has no discriminator")
        network = build_discriminator(config.model, seed=seed)
        return cls(network, adam(network.parameters(), config.training))

    @property
    def _named(self) -> Named:
        return dict(self.network.named_parameters())

    @classmethod
    def load(cls, path: Path, config: RunConfig) -> DiscriminatorState:
        """As `save` left it.

        Raises:
            ModelError: the file is damaged or belongs to another config.
        """
        state = cls.fresh(config, seed=0)
        state.restore(load_tensors(path))
        return state

    def save(self, path: Path) -> None:
        """Write both to one safetensors file, whole or not at all."""
        save_tensors(path, self.tensors(), private=True)  # it remembers the faces it saw

    def to(self, device: torch.device) -> None:
        """Move both: what an optimiser remembers does not follow its network by itself."""
        self.network.to(device)
        self.optimiser.load_state_dict(self.optimiser.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        return prefixed("network", self.network.state_dict()) | prefixed(
            "optimiser", optimiser_tensors(self.optimiser, self._named)
        )

    def restore(self, tensors: dict[str, Tensor]) -> None:
        try:
            self.network.load_state_dict(under("network", tensors))
        except RuntimeError as error:
            raise ModelError(
                "the saved discriminator does not fit model.discriminator_width",
                hint="remove its file to start with a fresh one",
            ) from error
        restore_optimiser(self.optimiser, self._named, under("optimiser", tensors))

    def snapshot(self) -> dict[str, Tensor]:
        """A copy that later training does not touch; `restore` takes it back."""
        return copy.deepcopy(self.tensors())

    def fools(
        self, reconstructions: Float[Tensor, "b 3 s s"], samples: Float[Tensor, "b 3 s s"]
    ) -> Float[Tensor, " b"]:
        """The generator's adversarial term: image i pays for its reconstruction and sample i.

        Gradients reach the images, not the discriminator's weights.
        """
        self.network.requires_grad_(False)
        scores = self.network(torch.cat([reconstructions, samples]))
        self.network.requires_grad_(True)
        return losses.adversarial(scores).reshape(2, -1).mean(dim=0)

    def judges(
        self,
        real: Float[Tensor, "b 3 s s"],
        reconstructions: Float[Tensor, "b 3 s s"],
        samples: Float[Tensor, "b 3 s s"],
    ) -> Float[Tensor, " b"]:
        """The discriminator's own term. Gradients reach its weights, not the generator."""
        made = torch.cat([reconstructions.detach(), samples.detach()])
        scores = self.network(torch.cat([real, made]))
        return losses.discriminator(scores[: len(real)], scores[len(real) :])
