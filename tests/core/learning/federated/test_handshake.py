"""What a site can tell about the code at the other end, and what it cannot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import facemorph_core
from facemorph_core.config import RunConfig
from facemorph_core.disk.hashing import core_sha256, package_sha256
from facemorph_core.learning.federated import Handshake, Refusal
from facemorph_core.learning.federated.refusal import Refused

CORE = Path(facemorph_core.__file__).parent
CHECKOUT = CORE.parent
needs_checkout = pytest.mark.skipif(
    not (CHECKOUT / "pyproject.toml").exists(), reason="facemorph_core is not that of a checkout"
)
NOISE = ' + deviation * secret.normal(tuple(total.shape), "noise", step, number).to(total)'
SAID = f"""
import json
from pathlib import Path
from facemorph_core.config import RunConfig
from facemorph_core.learning.federated import Handshake
print(json.dumps(Handshake.here(RunConfig(name="x"), Path({str(CHECKOUT)!r})).as_strings()))
"""


@pytest.fixture
def copied(tmp_path) -> Path:
    """facemorph_core in another place, as Python left it."""
    return Path(shutil.copytree(CORE, tmp_path / "copy" / "facemorph_core"))


def said_by(copied: Path) -> dict[str, str]:
    """What a process that runs the copy says of itself."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", SAID],
        env=os.environ | {"PYTHONPATH": str(copied.parent)},
        cwd=copied.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_core_without_its_noise_is_refused_and_the_log_has_both_digests(copied):
    here = Handshake.here(RunConfig(name="x"), CHECKOUT)
    mechanism = copied / "learning" / "privacy" / "mechanism.py"
    text = mechanism.read_text()
    assert text.count(NOISE) == 1
    mechanism.write_text(text.replace(NOISE, ""))
    there = said_by(copied)
    with pytest.raises(Refused) as caught:
        here.require(there)
    assert caught.value.refusal is Refusal.CODE_DIFFERS
    told = f"core_digest: here {here.core_digest}, at the server {there['core_digest']}"
    assert told in str(caught.value)


def test_a_core_that_says_nothing_of_itself_is_refused():
    here = Handshake.here(RunConfig(name="x"), CHECKOUT)
    with pytest.raises(Refused, match="core_digest"):
        here.require({k: v for k, v in here.as_strings().items() if k != "core_digest"})


@pytest.mark.parametrize(
    "change",
    [
        lambda core: (core / "learning" / "privacy" / "limits.py").write_text(""),
        lambda core: (core / "learning" / "privacy" / "events.py").unlink(),
        lambda core: (core / "learning" / "privacy" / "events.py").rename(core / "events.py"),
        lambda core: (core / "assets" / "steps.onnx").write_bytes(b"other"),
        lambda core: (core / "torch.so").write_bytes(b"added"),
    ],
    ids=["emptied", "removed", "moved", "asset", "added"],
)
def test_every_change_to_a_file_of_the_package_shows(copied, change):
    change(copied)
    assert package_sha256(copied) != core_sha256()


def test_what_python_and_editors_leave_behind_does_not_show(copied):
    (copied / "__pycache__").mkdir(exist_ok=True)
    (copied / "__pycache__" / "more.cpython-311.pyc").touch()
    (copied / "old.pyc").touch()
    (copied / ".ipynb_checkpoints").mkdir()
    (copied / ".ipynb_checkpoints" / "limits.py").touch()
    (copied / "learning" / "privacy" / ".limits.py.swp").touch()
    (copied / "empty").mkdir()
    assert package_sha256(copied) == core_sha256()


@needs_checkout
def test_an_installed_wheel_has_the_digest_of_its_checkout(tmp_path, copied):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copied.parent)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", tmp_path, copied.parent], check=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    assert package_sha256(tmp_path / "installed" / "facemorph_core") == core_sha256()
