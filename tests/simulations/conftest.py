"""What simulations need around them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Ray's sockets lie in it, and the path of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="sim-") as folder:
        yield Path(folder)
