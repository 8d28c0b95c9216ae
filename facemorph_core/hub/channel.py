"""The connection to a hub: TLS, the read token, and gRPC's statuses as our errors.

A token travels to the hub that it is for, over TLS or inside this machine: plain text exists for
loopback addresses alone. Other hubs are reached through the proxy of the environment, if there is
one; a hub on this machine never is.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc

from facemorph_core.errors import (
    HubBusy,
    HubError,
    HubUnreachable,
    HubUnusable,
    InvalidReference,
    UnknownModel,
)
from facemorph_core.hub.patience import AWAY_SECONDS, HubAway, Retries
from facemorph_core.hub.probe import Asked, obstacle
from facemorph_core.hub.proto import hub_pb2
from facemorph_core.hub.proto.hub_pb2_grpc import ModelHubStub
from facemorph_core.hub.reference import HubAddress
from facemorph_core.hub.token import bound_token, read_tokens
from facemorph_core.machine.printable import printable

__all__ = ["Hub", "connected"]

TOKEN, TOKEN_FILE = "FACEMORPH_HUB_TOKEN", "FACEMORPH_HUB_TOKEN_FILE"
CA, INSECURE = "FACEMORPH_HUB_CA", "FACEMORPH_HUB_INSECURE"

ASK_SECONDS = 20.0  # for a small answer
ATTEMPT_SECONDS = 120.0  # of a download; the next one goes on from there
OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 2**20),
    ("grpc.keepalive_time_ms", 30_000),  # a hub that vanished is noticed during a download
    ("grpc.keepalive_timeout_ms", 15_000),
    ("grpc.initial_reconnect_backoff_ms", 100),  # until then gRPC repeats its last failure
    ("grpc.max_reconnect_backoff_ms", 1000),
)
NO_PROXY = (("grpc.enable_http_proxy", 0),)

Reply = TypeVar("Reply")

STATUSES: dict[grpc.StatusCode, tuple[type[HubError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (HubAway, "is not available now"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (HubUnreachable, "does not answer"),
    grpc.StatusCode.NOT_FOUND: (UnknownModel, "does not have it"),
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidReference, "refuses the name"),
    grpc.StatusCode.UNAUTHENTICATED: (HubError, "wants a valid read token"),
    grpc.StatusCode.DATA_LOSS: (HubError, "holds a damaged bundle"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (HubBusy, "is busy"),
    grpc.StatusCode.CANCELLED: (HubBusy, "ended the call"),  # as it does to make room
    grpc.StatusCode.UNIMPLEMENTED: (HubError, "is none, or one of another version"),
}
NO_TERMS = ("TSI_", "Hostname Verification Check failed")
"""How gRPC says that TLS itself failed, should it be stricter than our own look."""
NOT_REACHED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
TOO_LARGE = "larger than max"
"""What gRPC says on our side about a message; its status is the one of a busy hub."""


@dataclass(frozen=True, slots=True)
class Hub:
    """An open connection; its methods raise HubError only."""

    address: HubAddress
    _asked: Asked
    _stub: ModelHubStub
    _metadata: tuple[tuple[str, str | bytes], ...]

    def models(self) -> list[hub_pb2.Model]:
        """Every model with its versions."""
        request = hub_pb2.ListRequest()
        return list(self._patiently(self._stub.List, request).models)

    def describe(self, name: str, version: int) -> hub_pb2.Description:
        """One version; 0 is the newest."""
        request = hub_pb2.DescribeRequest(name=name, version=version)
        return self._patiently(self._stub.Describe, request)

    def chunks(self, name: str, version: int, *, offset: int) -> Iterator[hub_pb2.Chunk]:
        """The header and then the bytes from ``offset`` on. Who asks has the patience."""
        with our_errors(self._asked):
            request = hub_pb2.DownloadRequest(name=name, version=version, offset=offset)
            yield from self._stub.Download(
                request, metadata=self._metadata, timeout=ATTEMPT_SECONDS
            )

    def _patiently(self, call: Callable[..., Reply], request: object) -> Reply:
        """The answer to a short call; one that came in no time is waited for once."""
        retries = Retries(AWAY_SECONDS)
        while True:
            try:
                return call(request, metadata=self._metadata, timeout=ASK_SECONDS)
            except grpc.RpcError as error:
                told, late = _told(error, self._asked), grpc.StatusCode.DEADLINE_EXCEEDED
                if error.code() is late or not isinstance(told, HubUnreachable):
                    raise told from error
                retries.after(told)


@contextmanager
def connected(
    address: HubAddress, *, token: str | None = None, ca: Path | None = None
) -> Iterator[Hub]:
    """A connection to the hub, closed afterwards.

    ``token`` is for this hub. What is not given comes from the environment: $FACEMORPH_HUB_TOKEN or
    $FACEMORPH_HUB_TOKEN_FILE (with the hub that each token is for), $FACEMORPH_HUB_CA (certificates
    to trust instead of the system's), and $FACEMORPH_HUB_INSECURE=1 (plain text, where the hub is
    on this machine).
    """
    secret = token or _token_of_environment(address)
    metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
    asked = _asked(address, ca)
    with _channel(asked) as channel:
        yield Hub(address, asked, ModelHubStub(channel), metadata)


@contextmanager
def our_errors(asked: Asked) -> Iterator[None]:
    """Errors of gRPC as ours, with advice."""
    try:
        yield
    except grpc.RpcError as error:
        raise _told(error, asked) from error


def _told(error: grpc.RpcError, asked: Asked) -> HubError:
    code, details = error.code(), printable(error.details() or "", longest=300)
    if code in NOT_REACHED and (found := obstacle(asked)) is not None:
        return found
    address = asked.address
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and TOO_LARGE in details:
        return HubError(f"the hub {address} says more than a hub has to say: {details}")
    kind, what = STATUSES.get(code, (HubError, f"failed ({code.name})"))
    if any(words in details for words in NO_TERMS):
        kind, what = HubUnusable, "cannot be spoken to over TLS"
    return kind(
        f"the hub {address} {what}: {details}" if details else f"the hub {address} {what}",
        hint="try again in a minute" if issubclass(kind, HubBusy) else _advice(address, code),
    )


def _asked(address: HubAddress, ca: Path | None) -> Asked:
    insecure = address.is_loopback and os.environ.get(INSECURE) == "1"
    if address.plain_text or insecure:
        return Asked(address, plain_text=True, trusted=None, ca=None)
    chosen = ca or (Path(os.environ[CA]) if os.environ.get(CA) else None)
    return Asked(address, plain_text=False, trusted=_trusted(chosen), ca=chosen)


def _channel(asked: Asked) -> grpc.Channel:
    where, is_here = str(asked.address), asked.address.is_loopback
    options = (*OPTIONS, *(NO_PROXY if is_here else ()))
    if asked.plain_text:
        return grpc.insecure_channel(where, options)
    return grpc.secure_channel(where, grpc.ssl_channel_credentials(asked.trusted), options)


def _trusted(chosen: Path | None) -> bytes | None:
    """Certificates to trust: the given ones, else the system's, else those gRPC brings along."""
    if chosen is not None:
        hint = f"name the hub's CA with --ca or ${CA}"
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(chosen.expanduser())
            return chosen.expanduser().read_bytes()
        except ssl.SSLError as error:
            raise HubError(f"{chosen} holds no certificates as PEM", hint=hint) from error
        except OSError as error:
            raise HubError(
                f"the certificates {chosen} cannot be read: {error.strerror or error}", hint=hint
            ) from error
    paths = ssl.get_default_verify_paths()
    bundles = [paths.cafile, f"{paths.capath}/ca-certificates.crt"]
    found = [Path(bundle) for bundle in bundles if bundle and Path(bundle).is_file()]
    return found[0].read_bytes() if found else None


def _token_of_environment(address: HubAddress) -> str | None:
    """The token for this hub, if there is one."""
    found = bound_token(os.environ.get(TOKEN, ""), address, source=f"${TOKEN}")
    file = os.environ.get(TOKEN_FILE)
    if found is None and file:
        path = Path(file).expanduser()
        found = bound_token(read_tokens(path), address, source=str(path))
    return found


def _advice(address: HubAddress, code: grpc.StatusCode) -> str | None:
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return (
            f"put {address}=TOKEN into ${TOKEN}, or into a file (chmod 600) and its name into "
            f"${TOKEN_FILE}; a token is sent to the hub that it names"
        )
    if code is grpc.StatusCode.NOT_FOUND:
        return f"see what it has: facemorph-core hub list {address}"
    return None
