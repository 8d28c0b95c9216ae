"""Where a file lies says which rule it is under: each rule is broken on purpose, and says so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("facemorph_core", "client", "server", "simulations", "benchmarks", "tools")
PLANTED = {
    "facemorph_core/alignment/planted.py": ("import torch", "torch is known to learning alone"),
    "facemorph_core/evaluation/planted.py": (
        "def late():\n    from torchvision import ops",
        "torch is known to learning alone",
    ),
    "facemorph_core/metrics/planted.py": (
        "from facemorph_core.morphing import engine",
        "every folder of core is in a layer",
    ),
    "facemorph_core/morphing/planted.py": (
        "def late():\n    from facemorph_core.learning import models",
        "every folder of core is in a layer",
    ),
    "facemorph_core/novel/__init__.py": ("", "every folder of core is in a layer"),
    "facemorph_core/learning/novel.py": ("", "every folder of learning is in a layer"),
    "facemorph_core/learning/nets/planted.py": (
        "from facemorph_core.learning import training",
        "every folder of learning is in a layer",
    ),
    "facemorph_core/disk/planted.py": ("import flwr", "core knows nothing of Flower"),
    "facemorph_core/bundle/planted.py": ("import grpc", "gRPC is known to the hub alone"),
    "server/planted.py": ("import grpc", "gRPC is known to the hub alone"),
    "client/planted.py": ("from server import app", "client and server never meet"),
    "simulations/planted.py": ("import benchmarks.clock", "what measures may use all"),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources alone, in a place of their own."""
    top = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            top / package,
            ignore=shutil.ignore_patterns("__pycache__", "assets"),
        )
    shutil.copy(ROOT / "pyproject.toml", top)
    return top


def linted(checkout: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the checkout that it stands in."""
    command = "import sys; from importlinter.cli import lint_imports_command; sys.argv[0] = 'lint';"
    return subprocess.run(
        [sys.executable, "-c", f"{command} lint_imports_command()", "--no-cache"],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_sources_keep_all_rules(copied: Path) -> None:
    done = linted(copied)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("place", PLANTED)
def test_a_planted_violation_breaks_the_rule_of_its_place(copied: Path, place: str) -> None:
    text, rule = PLANTED[place]
    planted = copied / place
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f"{text}\n")
    try:
        done = linted(copied)
    finally:
        planted.unlink()
        if planted.name == "__init__.py":
            shutil.rmtree(planted.parent)
    assert done.returncode == 1, done.stdout
    broken = [line for line in done.stdout.splitlines() if re.search(r"\bBROKEN\b", line)]
    assert any(rule in line for line in broken), done.stdout


# --- what travels ----------------------------------------------------------------------------


def tracked() -> set[str]:
    """The files that git has of this checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="these sources are no checkout")
def test_what_travels_lies_directly_in_client_and_server_and_nothing_else_does(
    tmp_path: Path,
) -> None:
    checkout, names = tmp_path / "checkout", tracked()
    for name in names:
        if name.split("/")[0] in ("client", "server", "configs", "pyproject.toml", ".gitignore"):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    (checkout / "client" / "__main__.py").write_text("# a site's own command")
    (checkout / "client" / "guard").mkdir()
    (checkout / "client" / "guard" / "approve.py").write_text("# what guards a site stays there")
    done = subprocess.run(
        [sys.executable, "-m", "flwr.cli.app", "build"],
        cwd=checkout,
        env=os.environ | {"FLWR_HOME": str(tmp_path / "flwr"), "FLWR_DISABLE_UPDATE_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [bundle] = checkout.glob("*.fab")
    with zipfile.ZipFile(bundle) as archive:
        inside = {name for name in archive.namelist() if not name.startswith(".info/")}
    expected = {
        name
        for name in names
        if re.fullmatch(r"(client|server)/[^/]+\.py|configs/[^/]+\.yaml", name)
        and not name.endswith("/__main__.py")
    }
    assert inside == expected | {"pyproject.toml"}
    assert {"client/app.py", "server/app.py", "configs/default.yaml"} <= inside
