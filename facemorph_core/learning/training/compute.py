"""Where and in which precision to compute."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch

from facemorph_core.config.schema import TrainingConfig
from facemorph_core.errors import ConfigError
from facemorph_core.machine.cores import granted

NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16")  # CPU features that multiply bfloat16 in hardware
CUBLAS_REPEATS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""What the library that multiplies matrices on a GPU reads when it starts: one way for each."""
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Variables that hold oneDNN, which multiplies for torch, to a processor's older features."""
OLDER = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""What they are set to where it then has no bfloat16."""


@dataclass(frozen=True, slots=True)
class Compute:
    """A device, and whether matrix products run in bfloat16 there."""

    device: torch.device
    bfloat16: bool

    @property
    def dtype(self) -> torch.dtype:
        """What matrices are multiplied in."""
        return torch.bfloat16 if self.bfloat16 else torch.float32

    def __str__(self) -> str:
        """Such as "float32 (AVX2)": for figures that depend on it."""
        on_cpu = self.device.type == "cpu"
        kernels = torch.backends.cpu.get_cpu_capability() if on_cpu else self.device.type
        return f"{str(self.dtype).removeprefix('torch.')} ({kernels})"

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    @contextlib.contextmanager
    def repeatable(self, *, strictly: bool = False) -> Iterator[None]:
        """Inside, the same numbers lead to the same numbers, and float32 is float32.

        A CPU is like that. A GPU left to itself adds up in another order each time, and in
        convolutions drops 13 of float32's 24 bits (TF32). The gradient of the identity net's
        sampling stays as it is there; ``strictly`` makes it a RuntimeError instead.
        """
        if self.device.type != "cuda":
            yield
            return
        os.environ.setdefault(*CUBLAS_REPEATS)
        cudnn, memory = torch.backends.cudnn, cast(Any, torch.utils.deterministic)
        before = torch.get_deterministic_debug_mode()
        precision, filled = cudnn.allow_tf32, memory.fill_uninitialized_memory
        torch.use_deterministic_algorithms(True, warn_only=not strictly)
        cudnn.allow_tf32, memory.fill_uninitialized_memory = False, False
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*deterministic")
                yield
        finally:
            cudnn.allow_tf32, memory.fill_uninitialized_memory = precision, filled
            torch.set_deterministic_debug_mode(before)


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
    if any(os.environ.get(limit, "").upper() in OLDER for limit in LIMITS):
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # not in every torch we allow
    if capabilities is not None:
        found = capabilities()
        return any(bool(found.get(name)) for name in NATIVE_BFLOAT16)
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(older is not None and older())


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads inside. The old number comes back.

    0 leaves its choice, as far as a container's quota goes, of which torch does not know.
    """
    before = torch.get_num_threads()
    wanted = count or granted(before)
    if wanted != before:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
