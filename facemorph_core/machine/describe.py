"""The machine in one line and the memory of this process, for figures that depend on them."""

from __future__ import annotations

import math
import os
import platform
import sys
from pathlib import Path

from facemorph_core.machine.cores import available_cores

_FEATURES = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""From the fastest at matrix products on."""


def describe() -> str:
    """Such as "AMD EPYC 9R14, 2 cores, avx512_bf16, 23 GiB, Linux"."""
    processor, flags = _processor()
    fastest = next((name for name in _FEATURES if name in flags), "")
    facts = [processor, f"{available_cores()} cores", fastest, _memory(), platform.system()]
    return ", ".join(fact for fact in facts if fact)


def peak_memory() -> float:
    """MiB that this process has taken at most so far; NaN where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there includes the parent's memory
        line = next(
            line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM")
        )
        return float(line.split()[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _processor() -> tuple[str, frozenset[str]]:
    """Name and features, as far as the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {name.strip(): value.strip() for name, value in facts.items()}
    name = found.get("model name") or platform.machine()
    return name, frozenset(found.get("flags", "").split())


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return ""
