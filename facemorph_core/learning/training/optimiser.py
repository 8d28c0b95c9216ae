r"""What moves the weights: Adam for all of them, or Muon for the matrices and Adam for the rest.

Muon replaces the running mean of a matrix' gradient by the nearest orthogonal matrix, so that
every direction that the gradient knows moves alike: from a random start it takes an autoencoder
as far as Adam in a third of the images. A convolution counts as the matrix (C', k*k*C) by which it
multiplies its patches. Updates are scaled to the size of Adam's (Liu et al., 2025), so that
one learning rate serves both.

References:
    | Adam (Kingma & Ba, 2015); Decoupled Weight Decay (Loshchilov & Hutter, 2019)
    | Muon (Jordan et al., 2024), https://kellerjordan.github.io/posts/muon
    | Muon is Scalable for LLM Training (Liu et al., 2025)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from facemorph_core.config.schema import TrainingConfig
from facemorph_core.learning.training.checkpoint import Named, optimiser_tensors, restore_optimiser
from facemorph_core.learning.training.compute import Compute
from facemorph_core.learning.training.orthogonal import orthogonal

MOMENTUM = 0.95
ADAMS_SIZE = 0.2
"""Root mean square of Adam's steps, in units of the learning rate."""


class Optimiser:
    """Steps every weight of ``module``. Moving the module's memory afterwards is allowed."""

    def __init__(self, module: nn.Module, config: TrainingConfig, compute: Compute) -> None:
        named = dict(module.named_parameters())
        is_muon = config.optimiser == "muon"
        self.matrices = {n: p for n, p in named.items() if is_muon and p.ndim > 1}
        self.flat = {name: nn.Parameter(flattened(p)) for name, p in self.matrices.items()}
        others = {name: p for name, p in named.items() if name not in self.matrices}
        self.parts: list[tuple[torch.optim.Optimizer, Named]] = []
        if others:
            self.parts.append((adam(others.values(), config), others))
        if self.flat:
            self.parts.append((muon(self.flat.values(), config, compute), self.flat))

    def set_rate(self, rate: float) -> None:
        """The step size of all weights from now on."""
        for optimiser, _ in self.parts:
            set_rate(optimiser, rate)

    def step(self) -> None:
        """One step along the gradients that the module's parameters hold."""
        for name, parameter in self.matrices.items():
            # anew each time: whoever moves the module to another memory order moves its weights
            self.flat[name].data = flattened(parameter)
            if parameter.grad is not None:
                self.flat[name].grad = _rows(parameter.grad, like=parameter)
        for optimiser, _ in self.parts:
            optimiser.step()

    def tensors(self) -> dict[str, Tensor]:
        """What it remembers, by the names of the parameters: see `restore`."""
        tensors: dict[str, Tensor] = {}
        for optimiser, named in self.parts:
            tensors |= optimiser_tensors(optimiser, named)
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`; empty ones mean an optimiser never used.

        Raises:
            ModelError: they belong to another network.
        """
        for optimiser, named in self.parts:
            restore_optimiser(optimiser, named, tensors)


def adam(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """Adam with decoupled weight decay, the whole update in one kernel."""
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.adam_betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, then the nearest orthogonal matrix, in the size of Adam's steps.

    `torch.optim.Muon` with a faster `orthogonal`, in ``dtype``; its state is the same.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along the gradients of the matrices."""
        for group in self.param_groups:
            rate, decay = group["lr"], group["weight_decay"]
            matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
            directions = orthogonal([self._ahead(matrix) for matrix in matrices], dtype=self.dtype)
            for matrix, direction in zip(matrices, directions, strict=True):
                if decay:
                    matrix.mul_(1 - rate * decay)
                matrix.add_(direction, alpha=-rate * ADAMS_SIZE * max(matrix.shape) ** 0.5)

    def _ahead(self, matrix: Tensor) -> Tensor:
        """Where the running mean of the matrix' gradients is going."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix.grad)
        running = state["momentum_buffer"].lerp_(matrix.grad, 1 - MOMENTUM)
        return matrix.grad.lerp(running, MOMENTUM)


def muon(matrices: Iterable[nn.Parameter], config: TrainingConfig, compute: Compute) -> Muon:
    """Muon with updates of the size of Adam's."""
    return Muon(
        matrices,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        dtype=compute.dtype,
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The step size of all its weights from now on."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def flattened(weight: Tensor) -> Tensor:
    """The matrix (C', everything else) of a weight, in the weight's own memory."""
    return _rows(weight.detach(), like=weight)


def _rows(values: Tensor, *, like: Tensor) -> Tensor:
    """``values`` as a matrix, its columns in the order that ``like`` has in memory."""
    if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)
    return values.reshape(len(values), -1)
