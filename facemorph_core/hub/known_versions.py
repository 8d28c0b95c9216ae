"""Which versions of a model a hub has given before: they never go back, and never change.

``seen.json`` beside the fetched bundles holds the highest version and the SHA-256 of each one. Only
what was fetched and verified is written down: a hub that merely says a number changes nothing here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from facemorph_core.disk.output import written_whole
from facemorph_core.errors import HubError
from facemorph_core.hub.proto import hub_pb2
from facemorph_core.hub.reference import LATEST, SHA256, HubReference

__all__ = ["KnownVersions", "require_known", "require_pinned", "seen_in", "write_seen"]

FILE = "seen.json"


@dataclass(frozen=True, slots=True)
class KnownVersions:
    """What one hub has given of one model."""

    file: Path
    newest: int
    sha256: dict[int, str]

    def plus(self, version: int, sha256: str) -> KnownVersions:
        """This and one more."""
        known = self.sha256 | {version: sha256}
        return replace(self, newest=max(self.newest, version), sha256=known)


def seen_in(folder: Path) -> KnownVersions:
    """What was seen of the model whose bundles lie in ``folder``.

    Raises:
        HubError: the file is damaged or not ours to read, so that it is not known.
    """
    file = folder / FILE
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        known = {int(version): str(sha256) for version, sha256 in kept["sha256"].items()}
        if not all(SHA256.fullmatch(sha256) for sha256 in known.values()):
            raise ValueError("no digests")
        return KnownVersions(file, int(kept["newest"]), known)
    except FileNotFoundError:
        return KnownVersions(file, LATEST, {})
    except OSError as error:
        raise HubError(
            f"{file} cannot be read: {error.strerror or error}",
            hint="ask whose it is, or set FACEMORPH_CACHE to a folder of your own",
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise HubError(
            f"{file} is damaged, and with it what the hub gave before",
            hint="if nobody else can write there, remove it: the next version is taken as it comes",
        ) from error


def write_seen(seen: KnownVersions) -> None:
    """Keep it: whole or not at all."""
    kept = {"newest": seen.newest, "sha256": {str(v): sha for v, sha in seen.sha256.items()}}
    with written_whole(seen.file, force=True) as temporary:
        temporary.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def require_pinned(reference: HubReference, sha256: str) -> None:
    """Refuse other bytes than the reference names; one that names none takes all."""
    if reference.sha256 and sha256 != reference.sha256:
        raise HubError(
            f"the hub {reference.address} offers {reference.name}@{reference.version} with another "
            "SHA-256 than the one that was named",
            hint=f"named {reference.sha256}, offered {sha256}: ask who gave you the reference",
        )


def require_known(
    seen: KnownVersions, reference: HubReference, offered: hub_pb2.Description
) -> None:
    """Refuse a version that went back, or that has other bytes than before.

    Raises:
        HubError: with the way to take it all the same, once it is known why.
    """
    name, version = offered.name, offered.version
    if reference.version == LATEST and version < seen.newest:
        raise HubError(
            f"the newest {name} of the hub {reference.address} is version {version}, and was "
            f"{seen.newest} before: a hub does not go back by itself",
            hint=f"ask who runs it; to take it all the same name {name}@{version}, or remove "
            f"{seen.file} if the hub began anew",
        )
    known = seen.sha256.get(version, offered.sha256)
    if known != offered.sha256 and not reference.sha256:
        pinned = replace(reference, version=version, sha256=offered.sha256)
        raise HubError(
            f"the hub {reference.address} offers other bytes as {name}@{version} than before",
            hint="a version never changes: ask who runs the hub, and if this is the digest that "
            f"they published, name {pinned.url}",
        )
