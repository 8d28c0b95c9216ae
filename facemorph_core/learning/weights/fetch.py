"""Third-party weights: fetched once, verified, kept in the cache as safetensors.

`find` never uses the network. `fetch` tries one source after the other, as `table` lists them (a
package that carries the numbers, from the index or mirror that this machine is set up with, then
torchvision's own file, ten times its size), or takes the file that it is given; all must end in
the pinned tensors.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
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
from facemorph_core.errors import WeightsUnavailable
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
from facemorph_core.packages import member, npm_archive, python_archive

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 8.0  # seconds without a byte from a host before the other way
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


def fetch(name: str, *, given: Path | None = None, say: Say = log.info) -> Path:
    """`find`, after getting the file if it is not there. Two callers at once fetch once.

    ``given`` is a source's file that lies here already: nobody is asked for it.

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
                arrays, source = _obtain(weights, path.parent, given, say)
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


def _obtain(weights: Weights, folder: Path, given: Path | None, say: Say) -> tuple[Arrays, str]:
    """The pinned tensors and the source that had them: the first that works."""
    failures = []
    for source in weights.sources:
        say(f"{weights.name}: trying {given or source.address}")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            try:
                arrays = _arrays(source, given or _delivered(source, Path(scratch)))
                if digest_of(arrays) != weights.digest:
                    raise WeightsUnavailable("its numbers are not the pinned ones")
            except WeightsUnavailable as error:
                failures.append(f"{source.address}: {error}")
                say(f"{weights.name}: {error}")
            else:
                return arrays, source.address
    raise WeightsUnavailable(
        f"the weights '{weights.name}' cannot be had here:\n  " + "\n  ".join(failures),
        hint="have a source's file brought here and name it with --from FILE, or fetch them where "
        f"there is a network and copy the file to {location(weights)}; both are verified",
    )


def _store(path: Path, arrays: Arrays, weights: Weights, source: str) -> None:
    facts = {"name": weights.name, "source": source, "digest": weights.digest}
    facts["terms"] = weights.terms
    with written_whole(path.with_suffix(".json"), force=True) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    with written_whole(path, force=True) as temporary:
        temporary.write_bytes(save(arrays, {"source": source, "terms": weights.terms}))


def _delivered(source: Source, scratch: Path) -> Path:
    """The file of a source, from wherever this machine gets such files."""
    match source:
        case TorchvisionFile():
            return _download(source.url, scratch / source.url.rpartition("/")[2])
        case PackageFile():
            return python_archive(source.release, scratch)
        case NpmGraph():
            return npm_archive(source.release, scratch)
        case _:
            assert_never(source)


def _arrays(source: Source, file: Path) -> Arrays:
    """The numbers in a source's file, which is not opened before its hash is known."""
    match source:
        case TorchvisionFile():
            return _from_torchvision(source, file)
        case PackageFile():
            return _from_package(source, file)
        case NpmGraph():
            archive = source.release.checked(file)
            return from_tfjs(member(archive, source.graph), member(archive, source.numbers))
        case _:
            assert_never(source)


def _from_torchvision(source: TorchvisionFile, file: Path) -> Arrays:
    if not file_sha256(file).startswith(source.sha256_prefix):
        raise WeightsUnavailable(f"{file.name} has another hash than the pinned one")
    return from_torch(file, source.layers)


def _from_package(source: PackageFile, file: Path) -> Arrays:
    data = member(source.release.checked(file), source.member)
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise WeightsUnavailable(f"{source.member} has another hash than the pinned one")
    return from_flax(data, source.layers)


def _download(url: str, path: Path) -> Path:
    if importlib.util.find_spec("torch") is None:
        raise WeightsUnavailable("reading this file needs torch, which is not installed")
    try:
        answer = urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT)  # https, from the table
    except (OSError, urllib.error.URLError) as error:
        raise WeightsUnavailable(f"no connection ({getattr(error, 'reason', error)})") from None
    with answer, path.open("wb") as file:
        while block := _next_block(answer):
            file.write(block)
    return path


def _next_block(answer: urllib.request._UrlopenRet) -> bytes:
    """A read that fails is the network's fault; a write that fails is the disk's."""
    try:
        return answer.read(BLOCK)
    except OSError as error:
        raise WeightsUnavailable(f"the connection broke ({error})") from None
