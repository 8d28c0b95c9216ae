"""What a reader asks a hub: which models there are, what one is, and the bundle itself.

Fetched bundles lie in the cache as ``models/HOST_PORT/NAME/VERSION-SHA12.facemorph``. A version
never changes once published, so one that is there is not fetched again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from facemorph_core.bundle.read import open_bundle
from facemorph_core.caching import cache_dir
from facemorph_core.errors import BundleError, HubError, HubUnreachable
from facemorph_core.hub.channel import Hub, connected
from facemorph_core.hub.download import Progress, check_announced, download
from facemorph_core.hub.proto import hub_pb2
from facemorph_core.hub.reference import LATEST, HubAddress, HubReference, checked_name
from facemorph_core.output import reported_output

__all__ = ["ModelDescription", "ModelVersion", "describe", "fetch", "list_models"]

log = logging.getLogger(__name__)

CACHED = re.compile(r"([1-9][0-9]*)-([0-9a-f]{12})\.facemorph")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One line of a hub's list."""

    name: str
    version: int
    size: int
    sha256: str
    damaged: bool


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A version and the summary of its manifest."""

    name: str
    version: int
    size: int
    sha256: str
    manifest: dict[str, Any]


def list_models(
    address: str, *, token: str | None = None, ca: Path | None = None
) -> list[ModelVersion]:
    """Every version of every model at ``address``, by name, oldest first."""
    with connected(HubAddress.parse(address), token=token, ca=ca) as hub:
        return [
            ModelVersion(model.name, v.number, v.size, v.sha256, v.damaged)
            for model in hub.models()
            for v in model.versions
        ]


def describe(ref: str, *, token: str | None = None, ca: Path | None = None) -> ModelDescription:
    """What the hub says about ``hub://host:port/name@version``."""
    reference = HubReference.parse(ref)
    with connected(reference.address, token=token, ca=ca) as hub:
        reply = _described(hub, reference)
    try:
        manifest = json.loads(reply.manifest_json)
    except ValueError as error:
        raise HubError(f"the hub {reference.address} sends a manifest that is no JSON") from error
    return ModelDescription(reply.name, reply.version, reply.size, reply.sha256, manifest)


def fetch(
    ref: str,
    *,
    cache: Path | None = None,
    token: str | None = None,
    ca: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The verified bundle of ``hub://host:port/name@version`` in the cache, fetched if need be.

    A numbered version that is there is used without asking the hub. ``latest`` asks; where the
    hub cannot be reached the newest one that is there is used, with a warning.

    Raises:
        HubError: there is no such model, the hub refuses, or what came is not what it announced.
        BundleError: what came is no sound bundle.
        OutputError: the cache cannot be written.
    """
    reference = HubReference.parse(ref)
    models = cache or cache_dir() / "models"
    shelf = Shelf(models / reference.address.folder / reference.name)
    with reported_output(shelf.folder, hint="free some space, or set FACEMORPH_CACHE"):
        shelf.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(shelf.folder / ".lock"):
            if reference.version != LATEST and (path := shelf.find(reference.version)):
                return path
            try:
                with connected(reference.address, token=token, ca=ca) as hub:
                    return shelf.bring(hub, _described(hub, reference), progress=progress)
            except HubUnreachable as error:
                return _newest_here(shelf, reference, error)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The cached versions of one model of one hub. Its lock is held by the caller."""

    folder: Path

    def find(self, version: int) -> Path | None:
        """The file of ``version``, if it is there and sound."""
        found = [path for number, path in self._held() if number == version]
        return next((path for path in found if self._sound(path)), None)

    def newest(self) -> Path | None:
        """The sound file with the highest version."""
        held = sorted(self._held(), reverse=True)
        return next((path for _, path in held if self._sound(path)), None)

    def bring(
        self, hub: Hub, offered: hub_pb2.Description, *, progress: Progress | None = None
    ) -> Path:
        """The file of the offered version: the one that is there, else downloaded."""
        path = self.folder / f"{offered.version}-{offered.sha256[:12]}.facemorph"
        if path.is_file() and self._sound(path):
            return path
        partial = path.with_name(f"{path.name}.partial")
        download(
            lambda offset: hub.chunks(offered.name, offered.version, offset=offset),
            partial,
            size=offered.size,
            sha256=offered.sha256,
            progress=progress,
        )
        try:
            open_bundle(partial)
        except BundleError:
            partial.unlink()
            raise
        partial.replace(path)
        self._forget_partials()
        log.info("fetched %s@%d from %s", offered.name, offered.version, hub.address)
        return path

    def _held(self) -> list[tuple[int, Path]]:
        names = ((CACHED.fullmatch(path.name), path) for path in self.folder.iterdir())
        return [(int(match[1]), path) for match, path in names if match]

    def _sound(self, path: Path) -> bool:
        """Whether the file still has the digest in its name; it is removed if not."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if path.name.endswith(f"-{digest[:12]}.facemorph"):
            return True
        log.warning("%s in the cache is damaged and was removed", path)
        path.unlink()
        return False

    def _forget_partials(self) -> None:
        for leftover in self.folder.glob("*.partial"):
            leftover.unlink()


def _described(hub: Hub, reference: HubReference) -> hub_pb2.Description:
    """The hub's answer, checked: parts of it become a file's name."""
    reply = hub.describe(reference.name, reference.version)
    check_announced(reply.size, reply.sha256)
    same = reference.version in (LATEST, reply.version) and reply.version > 0
    if checked_name(reply.name) != reference.name or not same:
        raise HubError(f"the hub {reference.address} answers with another model than was asked")
    return reply


def _newest_here(shelf: Shelf, reference: HubReference, error: HubUnreachable) -> Path:
    path = shelf.newest() if reference.version == LATEST else None
    if path is None:
        raise error
    log.warning("%s; using the newest version in the cache, %s", error, path.name)
    return path
