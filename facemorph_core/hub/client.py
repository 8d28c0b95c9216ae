"""What a reader asks a hub: which models there are, what one is, and the bundle itself.

Fetched bundles lie in the cache as ``models/HOST_PORT/NAME/VERSION-SHA12.facemorph``. A version
never changes once published, so one that is there is not fetched again, and a hub that goes back
to an older one is refused (`facemorph_core.hub.known_versions`). What lies there without having
been pinned or given by the hub is not taken. A cache that cannot be written serves what it holds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import Timeout

from facemorph_core.disk.cache import cache_dir
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.disk.output import locked, reported_output
from facemorph_core.errors import BundleError, HubUnreachable, OutputError
from facemorph_core.hub.answers import (
    ModelDescription,
    ModelVersion,
    as_asked,
    manifest_of,
    versions_of,
)
from facemorph_core.hub.channel import Hub, connected
from facemorph_core.hub.download import download
from facemorph_core.hub.known_versions import (
    KnownVersions,
    require_known,
    require_pinned,
    seen_in,
    write_seen,
)
from facemorph_core.hub.proto import hub_pb2
from facemorph_core.hub.reference import LATEST, HubAddress, HubReference
from facemorph_core.machine.progress import Progress

__all__ = [
    "ModelDescription",
    "ModelVersion",
    "Verify",
    "describe",
    "fetch",
    "list_models",
    "pinned",
]

log = logging.getLogger(__name__)

WAY_OUT = "free some space, or set FACEMORPH_CACHE to a folder that can be written"
Verify = Callable[[Path], object]
"""Reads a file that came, and raises BundleError where it is no sound bundle."""
CACHED = re.compile(r"([1-9][0-9]*)-([0-9a-f]{12})\.facemorph")


def list_models(
    address: str, *, token: str | None = None, ca: Path | None = None
) -> list[ModelVersion]:
    """Every version of every model at ``address``, by name, oldest first."""
    where = HubAddress.parse(address)
    with connected(where, token=token, ca=ca) as hub:
        return versions_of(where, hub.models())


def describe(ref: str, *, token: str | None = None, ca: Path | None = None) -> ModelDescription:
    """What the hub says about ``hub://host:port/name@version``."""
    reference = HubReference.parse(ref)
    with connected(reference.address, token=token, ca=ca) as hub:
        reply = _offered(hub, reference, Shelf.of(reference))
    manifest = manifest_of(reference, reply)
    url = replace(reference, version=reply.version, sha256=reply.sha256).url
    return ModelDescription(reply.name, reply.version, reply.size, reply.sha256, manifest, url)


def pinned(ref: str, path: Path) -> str:
    """``ref`` with the version and the SHA-256 of the bundle that was fetched for it."""
    named = CACHED.fullmatch(path.name)
    assert named is not None, "fetch gives names of this form"
    return replace(HubReference.parse(ref), version=int(named[1]), sha256=file_sha256(path)).url


def fetch(
    ref: str,
    verify: Verify,
    *,
    cache: Path | None = None,
    token: str | None = None,
    ca: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The verified bundle of ``hub://host:port/name@version`` in the cache, fetched if need be.

    A numbered version that is there is used without asking the hub. ``latest`` asks; where the
    hub cannot be reached the newest one that it gave is used, with a warning. A hub that is busy
    is asked again (`facemorph_core.hub.patience`). What comes is given its name once ``verify``
    has read it.

    Raises:
        HubError: there is no such model, the hub refuses or went back to an older version, or what
            came is not what it announced or what the reference pins.
        BundleError: what came is no sound bundle.
        OutputError: the cache cannot be written, and does not hold the model.
    """
    reference = HubReference.parse(ref)
    shelf = Shelf.of(reference, cache)
    if path := shelf.find(reference):
        return path  # whole, for it got its name at the end: no lock is needed
    try:
        with connected(reference.address, token=token, ca=ca) as hub:
            offered = _offered(hub, reference, shelf)
            with reported_output(shelf.folder, hint=WAY_OUT):
                return _taken(hub, offered, reference, shelf, verify, progress)
    except HubUnreachable as error:
        return _newest_here(shelf, reference, error)


def _taken(
    hub: Hub,
    offered: hub_pb2.Description,
    reference: HubReference,
    shelf: Shelf,
    verify: Verify,
    progress: Progress | None,
) -> Path:
    """The file of what is offered; of several processes that want it one downloads it."""
    with shelf.alone() as hindrance:
        # another process may have noted this version meanwhile, or a newer one
        numbered = replace(reference, version=offered.version)
        require_known(seen_in(shelf.folder), numbered, offered)
        if path := shelf.offered(offered):
            shelf.note(offered, unless=hindrance)
            return path
        if hindrance is not None:
            raise hindrance
        return shelf.bring(hub, offered, verify, progress=progress)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The cached versions of one model of one hub. What writes is called by who is alone on it."""

    folder: Path

    @classmethod
    def of(cls, reference: HubReference, cache: Path | None = None) -> Shelf:
        """Where the versions of the model that ``reference`` names lie."""
        models = cache or cache_dir() / "models"
        return cls(models / reference.address.folder / reference.name)

    @contextmanager
    def alone(self) -> Iterator[OutputError | None]:
        """Hold the lock of the shelf, which is made if needed; or tell why nothing can be written.

        It may be another user's, or of a disk that is read-only or full.
        """
        with ExitStack() as stack:
            hindrance = None
            try:
                with reported_output(self.folder, hint=WAY_OUT):
                    self.folder.mkdir(parents=True, exist_ok=True)
                self._lock(stack)
            except OutputError as error:
                hindrance = error
            yield hindrance

    def _lock(self, stack: ExitStack) -> None:
        file = self.folder / ".lock"
        try:
            stack.enter_context(locked(file, timeout=0, hint=WAY_OUT))
        except Timeout:
            log.warning("another process is fetching %s; waiting for it", self.folder.name)
            stack.enter_context(locked(file, hint=WAY_OUT))

    def find(self, reference: HubReference) -> Path | None:
        """The file of the named version, with the bytes that are pinned or that the hub gave."""
        if reference.version == LATEST:
            return None
        known = reference.sha256 or seen_in(self.folder).sha256.get(reference.version)
        return self._sound(reference.version, known)

    def holds(self, reference: HubReference) -> bool:
        """Whether there is a file of the named version, sound or not."""
        known = reference.sha256 or seen_in(self.folder).sha256.get(reference.version)
        return known is not None and self._place(reference.version, known).exists()

    def newest(self, seen: KnownVersions) -> Path | None:
        """The file of the newest version that the hub gave."""
        return self._sound(seen.newest, seen.sha256.get(seen.newest))

    def offered(self, offered: hub_pb2.Description) -> Path | None:
        """The file of the offered version."""
        return self._sound(offered.version, offered.sha256)

    def bring(
        self,
        hub: Hub,
        offered: hub_pb2.Description,
        verify: Verify,
        *,
        progress: Progress | None = None,
    ) -> Path:
        """The file of the offered version, downloaded; a damaged one is replaced."""
        path = self._place(offered.version, offered.sha256)
        if path.exists():
            log.warning("%s in the cache is damaged; fetching it again", path)
        self._download(hub, offered, path, verify, progress)
        self.note(offered)
        return path

    def note(self, offered: hub_pb2.Description, *, unless: OutputError | None = None) -> None:
        """Remember that the hub gave this; where nothing can be written, nothing new is."""
        seen = seen_in(self.folder)
        if unless is None and (now := seen.plus(offered.version, offered.sha256)) != seen:
            write_seen(now)

    def _place(self, version: int, sha256: str) -> Path:
        return self.folder / f"{version}-{sha256[:12]}.facemorph"

    def _sound(self, version: int, sha256: str | None) -> Path | None:
        """The file of a version, if it is there and has this digest."""
        if sha256 is None:
            return None
        path = self._place(version, sha256)
        try:
            return path if file_sha256(path) == sha256 else None
        except OSError:
            return None

    def _download(
        self,
        hub: Hub,
        offered: hub_pb2.Description,
        path: Path,
        verify: Verify,
        progress: Progress | None,
    ) -> None:
        partial = path.with_name(f"{path.name}.partial")
        download(
            lambda offset: hub.chunks(offered.name, offered.version, offset=offset),
            partial,
            size=offered.size,
            sha256=offered.sha256,
            progress=progress,
        )
        try:
            verify(partial)
        except BundleError:
            partial.unlink()
            raise
        partial.replace(path)
        self._forget_partials()
        log.info("fetched %s@%d from %s", offered.name, offered.version, hub.address)

    def _forget_partials(self) -> None:
        for leftover in self.folder.glob("*.partial"):
            leftover.unlink()


def _offered(hub: Hub, reference: HubReference, shelf: Shelf) -> hub_pb2.Description:
    """What the hub has for ``reference``: the model that was asked for, and none from before."""
    offered = as_asked(reference, hub.describe(reference.name, reference.version))
    require_pinned(reference, offered.sha256)
    require_known(seen_in(shelf.folder), reference, offered)
    return offered


def _newest_here(shelf: Shelf, reference: HubReference, error: HubUnreachable) -> Path:
    """The newest that the hub gave, where it cannot be asked; never an older one in its place."""
    seen = seen_in(shelf.folder)
    if reference.version != LATEST and shelf.holds(reference):
        raise HubUnreachable(
            f"{error}; and the cache holds {reference.name}@{reference.version}, but damaged",
            hint=error.hint,
        ) from error
    if reference.version != LATEST or seen.newest == LATEST:
        raise error
    path = shelf.newest(seen)
    if path is None:
        raise HubUnreachable(
            f"{error}; the newest version that it gave, {reference.name}@{seen.newest}, is not in "
            "the cache or is damaged there",
            hint=f"{error.hint or 'try again later'}; an older version that is there can be named",
        ) from error
    log.warning("%s; using the newest version in the cache, %s", error, path.name)
    return path
