"""How long the hub waits for those who call it: for their request, and for them to read.

gRPC gives every call a thread, and a caller who sends nothing or reads nothing keeps it for as long
as they like. Here each wait has an end. Downloads have a number of places of their own, so that
short calls always find a thread; where all are taken, the reader who has kept the hub waiting gives
way to the one who comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from facemorph_core.errors import HubBusy

__all__ = ["Downloads", "Patience", "WaitForRequests"]

REQUEST_SECONDS = 10.0  # to say what is wanted
READER_SECONDS = 30.0  # to take one piece of a download
DOWNLOAD_SECONDS = 3600.0  # for all of it; the next call goes on from there
GIVES_WAY_SECONDS = 2.0  # after which a reader who does not read may be replaced
DOWNLOADS = 16  # at a time
_TICK_SECONDS = 0.2


class Wait:
    """A call that is under way, and when it ends if nothing comes of it."""

    def __init__(self, context: grpc.ServicerContext, until: float) -> None:
        self.context, self.until = context, until
        self.since = time.monotonic()
        """When the caller last did something."""


class Patience:
    """Ends the calls that have been waited for long enough. One thread for all of them."""

    def __init__(self) -> None:
        self._waits: set[Wait] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Watch from now on."""
        threading.Thread(target=self._watch, name="hub-patience", daemon=True).start()

    @contextmanager
    def at_most(self, seconds: float, context: grpc.ServicerContext) -> Iterator[Wait]:
        """Cancel the call if the block, or a later ``until`` of its wait, is not over by then."""
        wait = Wait(context, time.monotonic() + seconds)
        with self._lock:
            self._waits.add(wait)
        try:
            yield wait
        finally:
            with self._lock:
                self._waits.discard(wait)

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(_TICK_SECONDS):
            now = time.monotonic()
            with self._lock:
                late = {wait for wait in self._waits if wait.until < now}
                self._waits -= late
            for wait in late:
                wait.context.cancel()


class Downloads:
    """The places of those who read. Safe to share between threads."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._reading: set[Wait] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._reading)

    @contextmanager
    def place(self, context: grpc.ServicerContext) -> Iterator[Callable[[], None]]:
        """A place for one reader; what is given is to be called whenever a piece was taken.

        Raises:
            HubBusy: all places are taken by readers who read.
        """
        with self._patience.at_most(READER_SECONDS, context) as wait:
            end = wait.since + DOWNLOAD_SECONDS

            def went_on() -> None:
                wait.since = time.monotonic()
                wait.until = min(end, wait.since + READER_SECONDS)

            self._enter(wait)
            try:
                yield went_on
            finally:
                self._leave(wait)

    def _enter(self, wait: Wait) -> None:
        with self._lock:
            if len(self._reading) >= DOWNLOADS:
                slowest = min(self._reading, key=lambda each: each.since)
                if wait.since - slowest.since < GIVES_WAY_SECONDS:
                    raise HubBusy(f"all {DOWNLOADS} downloads are under way")
                self._reading.remove(slowest)
                slowest.context.cancel()
            self._reading.add(wait)

    def _leave(self, wait: Wait) -> None:
        with self._lock:
            self._reading.discard(wait)


class WaitForRequests(grpc.ServerInterceptor):
    """Waits for a call's request itself, and not for ever, as gRPC would.

    To gRPC every call's request is a stream then, whose first message is the request. Nobody may
    watch the health for ever: who wants to know asks again.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler of one call, as one that is given a stream."""
        handler = continuation(details)
        if handler is None or handler.request_streaming:
            return handler
        if details.method.endswith("/Watch"):
            return None
        made = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        behaviour = handler.unary_stream or handler.unary_unary
        return made(
            lambda requests, context: behaviour(self._request(requests, context), context),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _request(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with self._patience.at_most(REQUEST_SECONDS, context):
            request = next(requests, None)
        if request is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is missing")
        return request
