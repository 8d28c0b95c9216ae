"""The weights that travel: encoder and decoder, by name and shape, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facemorph_core.errors import ModelError

SHARED_PREFIXES = ("encoder.", "decoder.")

Signature = dict[str, tuple[int, ...]]
Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Name -> shape and kind of number of each array."""


def shared_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the encoder's and decoder's weights, float32 on the CPU."""
    return {
        name: value.to("cpu", torch.float32, copy=True).contiguous()
        for name, value in _shared(model).items()
    }


def signature(weights: Mapping[str, Tensor]) -> Signature:
    """Names and shapes: what a set of weights must match to be used."""
    return {name: tuple(value.shape) for name, value in weights.items()}


def weights_problem(arrays: Mapping[str, NDArray[Any]], expected: Signature) -> str | None:
    """What is wrong with ``arrays`` in a few words, or None if they can be averaged."""
    return arrays_problem(arrays, {n: (s, np.dtype(np.float32)) for n, s in expected.items()})


def arrays_problem(arrays: Mapping[str, NDArray[Any]], expected: Layout) -> str | None:
    """The first way in which ``arrays`` are not of the ``expected`` layout and finite, or None."""
    problem = names_problem(arrays, expected)
    if problem is not None:
        return problem
    for name, array in arrays.items():
        shape, kind = expected[name]
        if tuple(array.shape) != shape:
            return f"{name} has shape {tuple(array.shape)} instead of {shape}"
        if array.dtype != kind:
            return f"{name} is {array.dtype} instead of {kind}"
        if not np.isfinite(array).all():
            return f"{name} holds values that are not finite"
    return None


def names_problem(names: Collection[str], expected: Collection[str]) -> str | None:
    """The first way in which ``names`` are not the ``expected`` ones, or None."""
    if missing := sorted(set(expected) - set(names)):
        return f"{len(missing)} weights are missing, first {missing[0]}"
    if extra := sorted(set(names) - set(expected)):
        return f"{len(extra)} weights are unknown, first {extra[0][:60]!r}"
    return None


def load_shared_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put ``weights`` into ``model`` in place.

    Raises:
        ModelError: for other names, shapes or kinds of number, or values that are not finite.
    """
    arrays = {name: value.detach().cpu().numpy() for name, value in weights.items()}
    problem = weights_problem(arrays, signature(_shared(model)))
    if problem is not None:
        raise ModelError(
            f"the weights do not fit the model: {problem}",
            hint="were they trained with the same model section of the config?",
        )
    model.load_state_dict(dict(weights), strict=False)


def _shared(model: nn.Module) -> dict[str, Tensor]:
    """The encoder's and decoder's weights themselves, not copies."""
    return {
        name: value.detach()
        for name, value in model.state_dict().items()
        if name.startswith(SHARED_PREFIXES)
    }
