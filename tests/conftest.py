"""Settings of all tests: hypothesis without deadlines, reproducible in CI; torch on one thread."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import settings

import facemorph_core  # noqa: F401 - before any test imports what it keeps quiet

settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that no worker is left with them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Tiny models gain nothing from threads, and real processes run beside these tests."""
    with contextlib.suppress(ModuleNotFoundError):  # the runtime is tested without torch, too
        import torch

        torch.set_num_threads(1)
