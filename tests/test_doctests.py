"""Every example of a docstring gives what stands below it; those of the runtime without torch."""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import facemorph_core

ROOT = Path(__file__).parent.parent
CODE = ("facemorph_core", "client", "server", "simulations", "benchmarks", "tools")
RUN = """
import doctest, importlib, sys
flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
*modules, needs_torch = sys.argv[1:]
found = [doctest.testmod(importlib.import_module(name), optionflags=flags) for name in modules]
assert needs_torch == "torch" or "torch" not in sys.modules, "an example loaded torch"
sys.exit(any(each.failed or not each.attempted for each in found))
"""


def examples() -> list[str]:
    """The modules that have some."""
    files = [file for folder in CODE for file in sorted((ROOT / folder).rglob("*.py"))]
    return [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if ">>> " in file.read_text("utf-8")
    ]


def is_runtime(module: str) -> bool:
    return module.startswith("facemorph_core") and not module.startswith("facemorph_core.learning")


@pytest.mark.parametrize("half", ["runtime", "torch"])
def test_every_example_runs(half: str, tmp_path: Path) -> None:
    modules = [name for name in examples() if is_runtime(name) == (half == "runtime")]
    assert len(modules) > 5
    done = subprocess.run(
        [sys.executable, "-c", RUN, *modules, half],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


PUBLIC = [f"facemorph_core.{name}" for name in facemorph_core.__all__ if name[0] != "_"]


def in_the_reference() -> list[str]:
    """Everything that its pages show, by name."""
    pages = (ROOT / "docs/reference").glob("*.md")
    return [name for page in pages for name in re.findall(r"(?m)^::: (\S+)$", page.read_text())]


@pytest.mark.parametrize("name", sorted({*PUBLIC, *in_the_reference()}))
def test_what_others_use_shows_how(name: str) -> None:
    assert ">>> " in (pkgutil.resolve_name(name).__doc__ or "")


def test_every_public_name_is_in_the_reference() -> None:
    assert {*PUBLIC} <= {*in_the_reference()}
