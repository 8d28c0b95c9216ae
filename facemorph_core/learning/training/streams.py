"""Random streams of a run: one per purpose and place, all from one seed, none of them global.

A stream depends on the seed, its name and where in the run it is used, and on nothing that
happened before. So a run that is resumed in the middle draws what it would have drawn, and
switching one source of randomness off changes no other.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the place ``path`` of the run ``seed``."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *path: str | int) -> torch.Generator:
    """The generator of one purpose at one place, on the CPU.

    >>> import torch
    >>> bool((torch.rand(3, generator=stream(0, "mirror", 1)) ==
    ...       torch.rand(3, generator=stream(0, "mirror", 1))).all())
    True
    """
    return torch.Generator().manual_seed(derive_seed(seed, *path))
