"""The machine in one line, for figures that depend on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from facemorph_core.processes import available_cores

_FEATURES = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""From the fastest at matrix products on."""


def describe() -> str:
    """Such as "AMD EPYC 9R14, 2 cores, avx512_bf16, 23 GiB, Linux"."""
    processor, flags = _processor()
    fastest = next((name for name in _FEATURES if name in flags), "")
    facts = [processor, f"{available_cores()} cores", fastest, _memory(), platform.system()]
    return ", ".join(fact for fact in facts if fact)


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
