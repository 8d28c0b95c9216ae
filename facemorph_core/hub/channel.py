"""The connection to a hub: TLS, the read token, and gRPC's statuses as our errors.

A token travels to the hub that it is for, over TLS or inside this machine: plain text exists for
loopback addresses alone.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from facemorph_core.errors import (
    HubBusy,
    HubError,
    HubUnreachable,
    InvalidReference,
    UnknownModel,
)
from facemorph_core.hub.proto import hub_pb2
from facemorph_core.hub.proto.hub_pb2_grpc import ModelHubStub
from facemorph_core.hub.reference import HubAddress
from facemorph_core.hub.token import bound_token, read_tokens
from facemorph_core.printable import printable

__all__ = ["Hub", "connected"]

TOKEN, TOKEN_FILE = "FACEMORPH_HUB_TOKEN", "FACEMORPH_HUB_TOKEN_FILE"
CA, INSECURE = "FACEMORPH_HUB_CA", "FACEMORPH_HUB_INSECURE"

ASK_SECONDS = 20.0  # for a small answer
ATTEMPT_SECONDS = 120.0  # of a download; the next one goes on from there
OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 2**20),
    ("grpc.keepalive_time_ms", 30_000),  # a hub that vanished is noticed during a download
    ("grpc.keepalive_timeout_ms", 15_000),
)
NO_PROXY = (("grpc.enable_http_proxy", 0),)

STATUSES: dict[grpc.StatusCode, tuple[type[HubError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (HubUnreachable, "cannot be reached"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (HubUnreachable, "does not answer"),
    grpc.StatusCode.NOT_FOUND: (UnknownModel, "does not have it"),
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidReference, "refuses the name"),
    grpc.StatusCode.UNAUTHENTICATED: (HubError, "wants a valid read token"),
    grpc.StatusCode.DATA_LOSS: (HubError, "holds a damaged bundle"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (HubBusy, "is busy"),
    grpc.StatusCode.CANCELLED: (HubUnreachable, "ended the call"),
}


@dataclass(frozen=True, slots=True)
class Hub:
    """An open connection; its methods raise HubError only."""

    address: HubAddress
    _stub: ModelHubStub
    _metadata: tuple[tuple[str, str | bytes], ...]

    def models(self) -> list[hub_pb2.Model]:
        """Every model with its versions."""
        with our_errors(self.address):
            request = hub_pb2.ListRequest()
            reply = self._stub.List(request, metadata=self._metadata, timeout=ASK_SECONDS)
            return list(reply.models)

    def describe(self, name: str, version: int) -> hub_pb2.Description:
        """One version; 0 is the newest."""
        with our_errors(self.address):
            request = hub_pb2.DescribeRequest(name=name, version=version)
            return self._stub.Describe(request, metadata=self._metadata, timeout=ASK_SECONDS)

    def chunks(self, name: str, version: int, *, offset: int) -> Iterator[hub_pb2.Chunk]:
        """The header and then the bytes from ``offset`` on."""
        with our_errors(self.address):
            request = hub_pb2.DownloadRequest(name=name, version=version, offset=offset)
            yield from self._stub.Download(
                request, metadata=self._metadata, timeout=ATTEMPT_SECONDS
            )


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
    options = (*OPTIONS, *(NO_PROXY if address.is_loopback else ()))
    with _channel(address, ca=ca, options=options) as channel:
        yield Hub(address, ModelHubStub(channel), metadata)


@contextmanager
def our_errors(address: HubAddress) -> Iterator[None]:
    """Errors of gRPC as ours, with advice."""
    try:
        yield
    except grpc.RpcError as error:
        code, details = error.code(), printable(error.details() or "", longest=300)
        kind, what = STATUSES.get(code, (HubError, f"failed ({code.name})"))
        raise kind(
            f"the hub {address} {what}: {details}" if details else f"the hub {address} {what}",
            hint=_advice(address, code, details),
        ) from error


def _channel(
    address: HubAddress, *, ca: Path | None, options: tuple[tuple[str, int], ...]
) -> grpc.Channel:
    if address.plain_text or (address.is_loopback and os.environ.get(INSECURE) == "1"):
        return grpc.insecure_channel(str(address), options)
    credentials = grpc.ssl_channel_credentials(_trusted(ca))
    return grpc.secure_channel(str(address), credentials, options)


def _trusted(ca: Path | None) -> bytes | None:
    """Certificates to trust: the given ones, else the system's, else those gRPC brings along."""
    chosen = ca or (Path(os.environ[CA]) if os.environ.get(CA) else None)
    if chosen is not None:
        try:
            return chosen.expanduser().read_bytes()
        except OSError as error:
            raise HubError(
                f"the certificates {chosen} cannot be read: {error.strerror or error}",
                hint=f"name the hub's CA with --ca or ${CA}",
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


def _advice(address: HubAddress, code: grpc.StatusCode, details: str) -> str | None:
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return (
            f"put {address}=TOKEN into ${TOKEN}, or into a file (chmod 600) and its name into "
            f"${TOKEN_FILE}; a token is sent to the hub that it names"
        )
    if code is grpc.StatusCode.NOT_FOUND:
        return f"see what it has: facemorph-core hub list {address}"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "try again in a minute"
    if code is not grpc.StatusCode.UNAVAILABLE:
        return None
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return f"if the certificate is the hub's own, name its CA with --ca or ${CA}"
    if address.plain_text:
        return "check that the hub is running; if it speaks TLS, write hub://"
    if address.is_loopback:
        return (
            "check that the hub is running; for one on this machine without TLS write "
            f"hub+insecure:// or set {INSECURE}=1"
        )
    return "check the address, and that the hub is running"
