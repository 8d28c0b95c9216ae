"""A wheel from outside adds a command without touching this package."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

MODULE = '''"""Says hello."""

import facemorph_hello


def command(name: str) -> None:
    """Greet somebody by name."""
    print(f"hello {name}")


def broken() -> None:
    pass
'''
ENTRY_POINTS = """[facemorph_core.commands]
hello = facemorph_hello.cli:command
lost = facemorph_hello.cli:missing
morph = facemorph_hello.cli:broken
"""
METADATA = "Metadata-Version: 2.1\nName: facemorph-hello\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the plugin's wheel was installed into by pip, without a network."""
    folder = tmp_path_factory.mktemp("plugin")
    wheel = folder / "facemorph_hello-1.0-py3-none-any.whl"
    info = "facemorph_hello-1.0.dist-info"
    files = {
        "facemorph_hello/__init__.py": "import sys\nprint('imported', file=sys.stderr)\n",
        "facemorph_hello/cli.py": MODULE,
        f"{info}/METADATA": METADATA,
        f"{info}/WHEEL": WHEEL,
        f"{info}/entry_points.txt": ENTRY_POINTS,
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def facemorph(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "facemorph_core", *arguments],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_of_a_plugin_works(site: Path) -> None:
    outcome = facemorph(site, "hello", "ada")
    assert (outcome.returncode, outcome.stdout) == (0, "hello ada\n"), outcome.stderr
    assert "Usage: facemorph-core hello" in facemorph(site, "hello", "--help").stdout


def test_it_is_listed_apart_and_without_being_imported(site: Path) -> None:
    outcome = facemorph(site)
    assert outcome.returncode == 0
    listed = outcome.stdout.partition("Added by plugins:")[2]
    assert "hello  Greet somebody by name" in listed
    assert "imported" not in outcome.stderr


def test_it_does_not_load_for_another_command(site: Path) -> None:
    assert "imported" not in facemorph(site, "inspect", "--help").stderr


def test_it_cannot_replace_a_command_of_ours(site: Path) -> None:
    outcome = facemorph(site, "morph", "--help")
    assert "Photos, in the order of the morph." in outcome.stdout
    assert "warning: two packages offer the command 'morph'" in outcome.stderr


def test_a_broken_plugin_is_named_as_the_culprit(site: Path) -> None:
    outcome = facemorph(site, "lost")
    assert outcome.returncode == 1
    assert "the command 'lost' cannot be loaded" in outcome.stderr
    assert "it comes with the package facemorph-hello" in outcome.stderr
