"""Where and in which precision to compute."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from facemorph_core.config.schema import TrainingConfig
from facemorph_core.errors import ConfigError

log = logging.getLogger(__name__)
NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16")  # CPU features that multiply bfloat16 in hardware


@dataclass(frozen=True, slots=True)
class Compute:
    """A device, and whether matrix products run in bfloat16 there."""

    device: torch.device
    bfloat16: bool

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


def choose_compute(config: TrainingConfig) -> Compute:
    """``auto`` takes a GPU if there is one, and bfloat16 where the device has it natively."""
    has_gpu = torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise ConfigError(
            "the config",
            ["training.device: 'cuda' was asked for, but torch sees no GPU here"],
            hint="use --set training.device=auto",
        )
    device = torch.device("cuda" if has_gpu and config.device != "cpu" else "cpu")
    match config.precision:
        case "auto":
            return Compute(device, has_native_bfloat16(device))
        case "bfloat16":
            return Compute(device, True)
        case "float32":
            return Compute(device, False)


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 here, not merely emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # not in every torch we allow
    if capabilities is not None:
        found = capabilities()
        return any(bool(found.get(name)) for name in NATIVE_BFLOAT16)
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(older is not None and older())


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads inside; 0 leaves its choice. The old number comes back."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
