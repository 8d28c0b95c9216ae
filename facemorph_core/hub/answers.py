"""What a hub says, checked before anybody sees or uses it: it may be anybody's hub.

Names are those that a model may have, digests are digests, and nothing that is no printable line
gets through to a terminal or into a file's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from facemorph_core.errors import HubError, InvalidReference
from facemorph_core.hub.download import MAX_BYTES, check_announced
from facemorph_core.hub.proto import hub_pb2
from facemorph_core.hub.reference import LATEST, SHA256, HubAddress, HubReference, checked_name

__all__ = ["ModelDescription", "ModelVersion", "as_asked", "manifest_of", "versions_of"]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One line of a hub's list."""

    name: str
    version: int
    size: int
    sha256: str
    damaged: bool
    reference: str
    """The pinned reference of these bytes; empty if they are damaged."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A version and the summary of its manifest."""

    name: str
    version: int
    size: int
    sha256: str
    manifest: dict[str, Any]
    reference: str
    """The pinned reference of these bytes."""


def versions_of(address: HubAddress, models: Iterable[hub_pb2.Model]) -> list[ModelVersion]:
    """The lines of a hub's list.

    Raises:
        HubError: one of them cannot be a model's.
    """
    return [_version(address, model.name, v) for model in models for v in model.versions]


def as_asked(reference: HubReference, reply: hub_pb2.Description) -> hub_pb2.Description:
    """``reply``, if it is about the model that was asked for: parts of it become a file's name."""
    check_announced(reply.size, reply.sha256)
    same = reference.version in (LATEST, reply.version) and reply.version > 0
    if checked_name(reply.name) != reference.name or not same:
        raise HubError(f"the hub {reference.address} answers with another model than was asked")
    return reply


def manifest_of(reference: HubReference, reply: hub_pb2.Description) -> dict[str, Any]:
    """The summary of the manifest, which JSON can write again.

    Raises:
        HubError: it is no JSON object, or nested beyond sense.
    """
    try:
        manifest = json.loads(reply.manifest_json)
        json.dumps(manifest, indent=1)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise HubError(f"the hub {reference.address} sends a manifest that is none")
    return manifest


def _version(address: HubAddress, name: str, version: hub_pb2.Version) -> ModelVersion:
    digest = version.sha256
    sound = bool(SHA256.fullmatch(digest)) or (version.damaged and not digest)
    try:
        checked_name(name)
    except InvalidReference:
        sound = False
    if not (sound and version.number > 0 and version.size <= MAX_BYTES):
        raise HubError(f"the hub {address} lists what cannot be a model ({name[:40]!r})")
    pinned = HubReference(address, name, version.number, digest).url if digest else ""
    return ModelVersion(name, version.number, version.size, digest, version.damaged, pinned)
