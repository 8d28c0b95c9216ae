"""The gRPC model hub: list, describe and download bundles from a directory.

Photos never come here: requests hold names and numbers only. The hub speaks TLS; plain text has
to be asked for and is bound to loopback. A read token, if there is one, is asked of everything
but the health check. Nobody is waited for without an end (`server.hub.patience`).
"""

from __future__ import annotations

import hmac
import logging
import signal
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from facemorph_core.errors import (
    BundleError,
    FaceMorphError,
    HubBusy,
    HubError,
    InvalidReference,
    UnknownModel,
)
from facemorph_core.hub.proto import hub_pb2, hub_pb2_grpc
from facemorph_core.hub.reference import is_loopback, join_host_port, split_host_port
from server.hub.catalogue import Catalogue, Entry
from server.hub.patience import DOWNLOADS, Downloads, Patience, WaitForRequests

__all__ = ["ModelHub", "RunningHub", "start", "stop_signals", "tls"]

log = logging.getLogger(__name__)

SERVICE = hub_pb2.DESCRIPTOR.services_by_name["ModelHub"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
CHUNK = 2**16  # small, so that a slow reader is seen to read
SHORT_CALLS = 16  # at a time, beside downloads
WAITING = 512  # calls beyond that, before RESOURCE_EXHAUSTED
GRACE_SECONDS = 10.0
OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second hub on the same port is a mistake, not a twin
    ("grpc.max_receive_message_length", 64 * 2**10),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", 64),  # of one connection
    ("grpc.server_handshake_timeout_ms", 10_000),
)

STATUSES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidReference, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownModel, grpc.StatusCode.NOT_FOUND),
    (HubBusy, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (BundleError, grpc.StatusCode.DATA_LOSS),
    (FaceMorphError, grpc.StatusCode.INTERNAL),
)


class ModelHub(hub_pb2_grpc.ModelHubServicer):
    """The service over one catalogue."""

    def __init__(self, catalogue: Catalogue, downloads: Downloads) -> None:
        self.catalogue, self.downloads = catalogue, downloads

    def List(  # noqa: N802 - the service's name for it
        self, request: hub_pb2.ListRequest, context: grpc.ServicerContext
    ) -> hub_pb2.ListReply:
        with reported_to(context):
            return to_list(self.catalogue.entries())

    def Describe(  # noqa: N802
        self, request: hub_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> hub_pb2.Description:
        with reported_to(context):
            return to_description(self.catalogue.find(request.name, request.version))

    def Download(  # noqa: N802
        self, request: hub_pb2.DownloadRequest, context: grpc.ServicerContext
    ) -> Iterator[hub_pb2.Chunk]:
        with reported_to(context), self.downloads.place(context) as went_on:
            entry = self.catalogue.find(request.name, request.version)
            if request.offset > entry.size:
                context.abort(grpc.StatusCode.OUT_OF_RANGE, f"it has {entry.size} bytes")
            log.info("%s@%d from byte %d", entry.name, entry.version, request.offset)
            yield to_header(entry)
            with self.catalogue.opened(entry) as file:
                file.seek(request.offset)
                while data := file.read(CHUNK):
                    went_on()
                    yield hub_pb2.Chunk(data=data)


@contextmanager
def reported_to(context: grpc.ServicerContext) -> Iterator[None]:
    """Turn our errors into statuses; anything about the hub's disk stays in its log."""
    try:
        yield
    except FaceMorphError as error:
        code = next(code for kind, code in STATUSES if isinstance(error, kind))
        context.abort(code, str(error))
    except OSError as error:
        log.error("a request failed: %s", error)
        context.abort(grpc.StatusCode.INTERNAL, "the hub could not read its files")


class RequireToken(grpc.ServerInterceptor):
    """Refuses every call without ``authorization: Bearer TOKEN``, but for the health check."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self._refusal: Any = grpc.stream_unary_rpc_method_handler(_refuse)  # waits for no request

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Decide on one call."""
        if details.method.startswith(f"/{HEALTH}/") or self._is_known(details):
            return continuation(details)
        return self._refusal

    def _is_known(self, details: Any) -> bool:
        said = [value for key, value in details.invocation_metadata if key == "authorization"]
        given = said[0] if len(said) == 1 else ""
        return hmac.compare_digest(
            given if isinstance(given, bytes) else given.encode(), self._expected
        )


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that serves; stop it."""

    address: str
    """HOST:PORT, with the real port."""
    url: str
    """What readers put before /NAME@latest."""
    downloads: Downloads
    """Those under way."""
    _server: grpc.Server
    _health: health.HealthServicer
    _patience: Patience

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Report NOT_SERVING, take no more calls, let those under way end within ``grace``."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()
        self._patience.stop()


def start(
    catalogue: Catalogue,
    address: str,
    *,
    credentials: grpc.ServerCredentials | None,
    token: str | None = None,
) -> RunningHub:
    """Serve ``catalogue`` on ``HOST:PORT`` (0 takes a free one) from now on.

    ``credentials`` come from `tls`; None is plain text and refused beyond loopback.
    """
    host, port = _listening(address, plain_text=credentials is None)
    patience = Patience()
    downloads, threads = Downloads(patience), DOWNLOADS + SHORT_CALLS
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="hub"),
        interceptors=[*([RequireToken(token)] if token else []), WaitForRequests(patience)],
        options=OPTIONS,
        maximum_concurrent_rpcs=threads + WAITING,
    )
    checker = health.HealthServicer()
    hub_pb2_grpc.add_ModelHubServicer_to_server(ModelHub(catalogue, downloads), server)
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    bound = _bind(server, join_host_port(host, port), credentials)
    catalogue.entries()  # verified, and the damaged ones named, before the first reader asks
    patience.start()
    server.start()
    for service in ("", SERVICE):
        checker.set(service, health_pb2.HealthCheckResponse.SERVING)
    where = join_host_port(host, bound)
    url = f"{'hub' if credentials else 'hub+insecure'}://{where}"
    return RunningHub(where, url, downloads, server, checker, patience)


def tls(cert: Path, key: Path) -> grpc.ServerCredentials:
    """Credentials from PEM files: the certificate with its chain, and its private key."""
    try:
        if key.stat().st_mode & stat.S_IRWXO:
            raise HubError(
                f"everybody on this machine may read the key {key}", hint=f"chmod 600 {key}"
            )
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
        return grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    except ssl.SSLError as error:
        raise HubError(
            f"{cert} and {key} are not a certificate and its key: {error.reason or error}",
            hint="PEM files without a password are needed",
        ) from error
    except OSError as error:
        name = error.filename or f"{cert} or {key}"
        raise HubError(f"{name} cannot be read: {error.strerror or error}") from error


def stop_signals() -> threading.Event:
    """An event that signals set from now on, instead of ending the process.

    SIGTERM, SIGINT and, where it is not ignored as `nohup` asks, SIGHUP of a closed terminal.
    """
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: asked.set())
    return asked


def to_list(entries: list[Entry]) -> hub_pb2.ListReply:
    """Entries that are sorted by name as the wire's list."""
    models = [
        hub_pb2.Model(name=name, versions=[to_version(entry) for entry in versions])
        for name, versions in groupby(entries, key=lambda entry: entry.name)
    ]
    return hub_pb2.ListReply(models=models)


def to_version(entry: Entry) -> hub_pb2.Version:
    """One line of the list."""
    return hub_pb2.Version(
        number=entry.version, size=entry.size, sha256=entry.sha256, damaged=entry.damaged
    )


def to_description(entry: Entry) -> hub_pb2.Description:
    """What Describe answers."""
    return hub_pb2.Description(
        name=entry.name,
        version=entry.version,
        size=entry.size,
        sha256=entry.sha256,
        manifest_json=entry.summary,
    )


def to_header(entry: Entry) -> hub_pb2.Chunk:
    """The first message of a download."""
    header = hub_pb2.Header(version=entry.version, size=entry.size, sha256=entry.sha256)
    return hub_pb2.Chunk(header=header)


def _refuse(request: object, context: grpc.ServicerContext) -> None:
    log.warning("%s came without the read token", context.peer())
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "a read token is needed")


def _listening(address: str, *, plain_text: bool) -> tuple[str, int]:
    host, port = split_host_port(address)
    if port is None:
        raise HubError(f"'{address}' has no port", hint=f"--address {address}:8765")
    if plain_text and not is_loopback(host):
        raise HubError(
            f"plain text is served on loopback only, and {host} is not",
            hint="give --cert and --key, or listen on 127.0.0.1",
        )
    return host, port


def _bind(server: grpc.Server, where: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return server.add_insecure_port(where)
        return server.add_secure_port(where, credentials)
    except RuntimeError as error:
        raise HubError(
            f"the hub cannot listen on {where}", hint="is another program using that port?"
        ) from error


def _no_password() -> str:
    """OpenSSL would ask for one on the terminal."""
    return ""
