"""Callers who neither send nor read: they end, and nobody else waits for them."""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facemorph_core.hub.proto import hub_pb2, hub_pb2_grpc
from server.hub import patience
from server.hub import serve as hub
from server.hub.catalogue import Entry

BIG = 24 * 2**20
ENTRY = Entry("faces", 1, None, BIG, "0" * 64, "{}")
CROWD = 40
SOON = 200  # seconds: a hub that hangs fails the test instead of hanging it
STALLING = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
MODELS = f"/{hub.SERVICE}"


class OneBigModel:
    """A catalogue of one model, larger than any buffer on the way."""

    def entries(self) -> list[Entry]:
        return [ENTRY]

    def find(self, name: str, version: int) -> Entry:
        return ENTRY

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[io.BytesIO]:
        yield io.BytesIO(bytes(BIG))


@pytest.fixture
def running():
    started = hub.start(OneBigModel(), "127.0.0.1:0", credentials=None)
    yield started
    started.stop(0)


@pytest.fixture
def channel(running):
    with grpc.insecure_channel(running.address) as opened:
        yield opened


@contextmanager
def readers_that_do_not_read(address: str, count: int):
    """Downloads of which nobody takes more than the first message."""
    with ExitStack() as stack:
        calls = []
        for _ in range(count):
            options = (*STALLING, ("grpc.use_local_subchannel_pool", 1))
            opened = stack.enter_context(grpc.insecure_channel(address, options))
            call = hub_pb2_grpc.ModelHubStub(opened).Download(hub_pb2.DownloadRequest(name="faces"))
            stack.callback(call.cancel)
            calls.append(call)
        yield calls


@contextmanager
def callers_who_say_nothing(address: str, count: int, method: str):
    """Calls whose request never comes."""
    with grpc.insecure_channel(address) as opened:
        silent: queue.Queue = queue.Queue()
        ask = opened.stream_unary(method)
        calls = [ask.future(iter(silent.get, None)) for _ in range(count)]
        try:
            yield calls
        finally:
            for call in calls:
                call.cancel()
                silent.put(None)


def everything_works(channel: grpc.Channel) -> None:
    stub = hub_pb2_grpc.ModelHubStub(channel)
    assert stub.List(hub_pb2.ListRequest(), timeout=SOON).models[0].name == "faces"
    assert stub.Describe(hub_pb2.DescribeRequest(name="faces"), timeout=SOON).size == BIG
    health = health_pb2_grpc.HealthStub(channel)
    reply = health.Check(health_pb2.HealthCheckRequest(), timeout=SOON)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    until(lambda: downloaded(stub))


def downloaded(stub: hub_pb2_grpc.ModelHubStub) -> bool:
    """Whether a download succeeds; False where the hub is busy, after which readers ask again."""
    try:
        chunks = list(stub.Download(hub_pb2.DownloadRequest(name="faces"), timeout=SOON))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False
    return sum(len(chunk.data) for chunk in chunks) == BIG


def until(happened) -> None:
    """Wait for it, and not for ever."""
    end = time.monotonic() + SOON
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def ended(calls) -> int:
    return sum(not call.is_active() for call in calls)


def test_a_crowd_that_does_not_read_keeps_nobody_else_out(running, channel):
    with readers_that_do_not_read(running.address, CROWD) as calls:
        until(lambda: len(running.downloads) == patience.DOWNLOADS)
        everything_works(channel)
    assert len(calls) > 2 * patience.DOWNLOADS


def test_streams_that_nobody_reads_are_ended(running, monkeypatch):
    monkeypatch.setattr(patience, "READER_SECONDS", 0.3)
    with readers_that_do_not_read(running.address, 4) as calls:
        for call in calls:
            next(call)
        until(lambda: not running.downloads)
    assert ended(calls) == 4


def test_a_download_is_ended_at_last_however_well_it_goes(running, channel, monkeypatch):
    monkeypatch.setattr(patience, "DOWNLOAD_SECONDS", 0.2)
    call = hub_pb2_grpc.ModelHubStub(channel).Download(hub_pb2.DownloadRequest(name="faces"))
    with pytest.raises(grpc.RpcError) as caught:
        list(slow_lengths(call, threading.Event()))
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    until(lambda: not running.downloads)


def test_one_download_too_many_is_told_at_once_to_try_again(running, channel, monkeypatch):
    monkeypatch.setattr(patience, "GIVES_WAY_SECONDS", 1e9)
    with readers_that_do_not_read(running.address, patience.DOWNLOADS) as calls:
        for call in calls:
            next(call)
        with pytest.raises(grpc.RpcError) as caught:
            list(
                hub_pb2_grpc.ModelHubStub(channel).Download(
                    hub_pb2.DownloadRequest(name="faces"), timeout=SOON
                )
            )
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "downloads are under way" in caught.value.details()
    until(lambda: not running.downloads)
    everything_works(channel)


def test_who_reads_slowly_stays_and_who_does_not_read_gives_way(running, channel, monkeypatch):
    monkeypatch.setattr(patience, "DOWNLOADS", 2)
    monkeypatch.setattr(patience, "GIVES_WAY_SECONDS", 3.0)
    slow = hub_pb2_grpc.ModelHubStub(channel).Download(hub_pb2.DownloadRequest(name="faces"))
    taken, tested = [len(next(slow).data)], threading.Event()
    with readers_that_do_not_read(running.address, 1) as [stalled]:
        next(stalled)
        reader = threading.Thread(target=lambda: taken.extend(slow_lengths(slow, tested)))
        reader.start()
        time.sleep(3.5)
        with grpc.insecure_channel(running.address) as other:
            everything_works(other)
        tested.set()
        reader.join(SOON)
        with pytest.raises(grpc.RpcError):
            list(stalled)
    assert sum(taken) == BIG


def slow_lengths(call, enough: threading.Event) -> Iterator[int]:
    """Slowly until it is enough."""
    for chunk in call:
        enough.wait(0.05)
        yield len(chunk.data)


@pytest.mark.parametrize("method", [f"{MODELS}/List", f"{MODELS}/Download", f"/{hub.HEALTH}/Check"])
def test_a_crowd_that_asks_for_nothing_is_ended(running, channel, monkeypatch, method):
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 0.5)
    with callers_who_say_nothing(running.address, CROWD, method) as calls:
        everything_works(channel)
        until(lambda: all(call.done() for call in calls))


def test_a_stranger_without_the_token_is_not_even_waited_for(monkeypatch):
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 1e9)
    started = hub.start(OneBigModel(), "127.0.0.1:0", credentials=None, token="t" * 16)
    try:
        with callers_who_say_nothing(started.address, 3, f"{MODELS}/Download") as calls:
            until(lambda: all(call.done() for call in calls))
            assert {call.code() for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
    finally:
        started.stop(0)


def test_nobody_watches_the_health_for_ever(channel):
    health = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        next(health.Watch(health_pb2.HealthCheckRequest(), timeout=SOON))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_empty_request_is_refused(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(f"{MODELS}/List")(iter(()), timeout=SOON)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
