"""Tensors to disk and back as safetensors: whole or not at all, nothing pickled.

Optimiser state is stored per parameter name (``NAME/exp_avg``), so that it can be read without
the process that wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from facemorph_core.disk.output import written_whole
from facemorph_core.errors import ModelError

Named = Mapping[str, nn.Parameter]


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: dict[str, str] | None = None,
    *,
    private: bool = False,
) -> None:
    """Write ``path`` through a temporary file beside it, synced before it takes the name.

    ``private``: for its owner alone.

    Raises:
        OutputError: the disk is full or the folder cannot be written; the old file is intact.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path, force=True, private=private) as temporary:
        temporary.write_bytes(save(plain, metadata))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `save_tensors` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        return load(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(
            f"{path} cannot be read: {error}", hint="remove it to start from fresh weights"
        ) from error


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below ``prefix``, without it: what `prefixed` was given."""
    start = prefix + "/"
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def optimiser_tensors(optimiser: torch.optim.Optimizer, named: Named) -> dict[str, Tensor]:
    """What the optimiser remembers of each of its parameters."""
    return {
        f"{name}/{key}": value
        for name, parameter in named.items()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, named: Named, tensors: Mapping[str, Tensor]
) -> None:
    """Give back what `optimiser_tensors` took; empty tensors mean an optimiser never used.

    ``named`` are the optimiser's parameters in its own order.

    Raises:
        ModelError: the state belongs to another network.
    """
    state = {}
    for index, (name, parameter) in enumerate(named.items()):
        own = under(name, tensors)
        if any(value.shape not in (parameter.shape, ()) for value in own.values()):
            raise ModelError(f"the optimiser's state does not fit the parameter {name}")
        if own:
            state[index] = {key: _laid_out_like(parameter, value) for key, value in own.items()}
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """The fused kernels walk through memory: state must have its parameter's strides."""
    if value.shape != parameter.shape:
        return value.clone()
    return torch.empty_like(parameter).copy_(value)
