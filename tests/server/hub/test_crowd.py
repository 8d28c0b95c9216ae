"""More readers than places, and a hub that falters: all get their model, and none for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from facemorph_core import hub as client
from facemorph_core.bundle.find import fetch_model
from facemorph_core.config.schema import AEConfig
from facemorph_core.errors import HubBusy, HubError, HubUnreachable, UnknownModel
from facemorph_core.hub import channel
from facemorph_core.hub import patience as readers
from facemorph_core.learning.models.build import build_model
from facemorph_core.learning.release.write import write_bundle
from server.hub import patience as places
from server.hub import serve as hub
from server.hub.catalogue import Catalogue, publish

CROWD = 60
TOKEN = "a-token-for-the-tests-only"
BUSY, AWAY = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    model = build_model(AEConfig(image_size=32, width=8, latent_dim=8), seed=0)
    out = tmp_path_factory.mktemp("bundle") / "tiny.facemorph"
    config = {"name": "tiny", "model": {"kind": "ae"}}
    return write_bundle(model, out, config=config, training={"rounds": 1}, metrics={})


@pytest.fixture
def shelf(tmp_path, bundle) -> Path:
    publish(bundle, tmp_path / "shelf", "faces")
    return tmp_path / "shelf"


@pytest.fixture(autouse=True)
def brisk(monkeypatch, tmp_path):
    for name in ("TOKEN", "TOKEN_FILE", "CA", "INSECURE"):
        monkeypatch.delenv(f"FACEMORPH_HUB_{name}", raising=False)
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(readers, "WAIT_PAUSES", (0.02, 0.2))
    monkeypatch.setattr(readers, "TRY_PAUSES", (0.02, 0.2))


class Faults:
    """What the hub does wrong, call by call; after that it does what it should."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.describing: list[grpc.StatusCode] = []
        self.downloading: list[grpc.StatusCode] = []
        self.pieces = 0
        """That a failing download brings before."""
        self.offsets: list[int] = []
        self.asked = 0
        self.manifest = ""
        """That is said instead of the true one."""
        describe, download = hub.ModelHub.Describe, hub.ModelHub.Download

        def faulty_describe(servicer, request, context):
            self.asked += 1
            if self.describing:
                context.abort(self.describing.pop(0), "a fault")
            reply = describe(servicer, request, context)
            if self.manifest:
                reply.manifest_json = self.manifest
            return reply

        def faulty_download(servicer, request, context):
            self.offsets.append(request.offset)
            chunks = download(servicer, request, context)
            if self.downloading:
                for _ in range(self.pieces):
                    yield next(chunks)
                chunks.close()
                context.abort(self.downloading.pop(0), "a fault")
            yield from chunks

        monkeypatch.setattr(hub.ModelHub, "Describe", faulty_describe)
        monkeypatch.setattr(hub.ModelHub, "Download", faulty_download)


@pytest.fixture
def faults(monkeypatch) -> Faults:
    return Faults(monkeypatch)


@pytest.fixture
def running(shelf, faults) -> Iterator[hub.RunningHub]:
    started = hub.start(Catalogue(shelf), "127.0.0.1:0", credentials=None, token=TOKEN)
    yield started
    started.stop(0)


def fetch(running: hub.RunningHub, name: str = "faces", **more) -> Path:
    return fetch_model(f"{running.url}/{name}", token=TOKEN, **more)


def test_of_a_crowd_everybody_gets_the_model(running, bundle, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(places, "DOWNLOADS", 2)
    one_connection_each = ("grpc.use_local_subchannel_pool", 1)
    options = (*client.channel.OPTIONS, one_connection_each)
    monkeypatch.setattr("facemorph_core.hub.channel.OPTIONS", options)
    with ThreadPoolExecutor(CROWD) as crowd:
        caches = [tmp_path / f"cache-{number}" for number in range(CROWD)]
        paths = list(crowd.map(lambda cache: fetch(running, cache=cache), caches))
    assert len(set(paths)) == CROWD
    assert {path.read_bytes() for path in paths} == {bundle.read_bytes()}
    waited = [said for said in caplog.messages if "is busy" in said]
    assert 0 < len(waited) <= CROWD
    assert all("asking again for up to 60 min" in said for said in waited)


@pytest.mark.parametrize("status", [BUSY, AWAY, grpc.StatusCode.CANCELLED])
def test_a_hub_that_falters_for_a_while_is_asked_until_it_answers(running, faults, bundle, status):
    faults.describing, faults.downloading = [status] * 9, [status] * 9
    assert fetch(running).read_bytes() == bundle.read_bytes()
    assert faults.asked == 10
    assert faults.offsets == [0] * 10


def test_what_came_before_it_faltered_is_not_asked_for_again(running, faults, bundle, monkeypatch):
    monkeypatch.setattr(hub, "CHUNK", 1000)
    faults.downloading, faults.pieces = [AWAY, BUSY] * 4, 3  # the header and two pieces
    assert fetch(running).read_bytes() == bundle.read_bytes()
    assert faults.offsets == [2000 * number for number in range(9)]


def test_a_hub_that_stays_busy_is_left_in_the_end(running, faults, monkeypatch):
    monkeypatch.setattr(channel, "AWAY_SECONDS", 0.0)
    faults.describing = [BUSY] * 9
    with pytest.raises(HubBusy, match="is busy: a fault") as caught:
        fetch(running)
    assert "try again in a minute" in caught.value.hint
    assert faults.asked == 1


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
)
def test_what_cannot_pass_is_asked_once(running, faults, status):
    faults.describing = [status] * 9
    with pytest.raises(HubError) as caught:
        fetch(running)
    assert not isinstance(caught.value, HubUnreachable)
    assert faults.asked == 1
    faults.describing, faults.downloading = [], [status] * 9
    with pytest.raises(HubError):
        fetch(running)
    assert faults.offsets == [0]


def test_a_wrong_token_and_an_unknown_model_are_not_asked_for_twice(running, faults, monkeypatch):
    monkeypatch.setattr("facemorph_core.hub.patience.time.sleep", lambda _: pytest.fail("waits"))
    with pytest.raises(HubError, match="valid read token"):
        fetch_model(f"{running.url}/faces", token=TOKEN[:-1] + "x")
    assert faults.asked == 0
    with pytest.raises(UnknownModel):
        fetch(running, "others")
    assert faults.asked == 1


def test_a_hub_that_says_too_much_is_not_taken_for_a_busy_one(running, faults):
    faults.manifest = "x" * 5 * 2**20
    with pytest.raises(HubError, match="says more than a hub has to say") as caught:
        fetch(running)
    assert not isinstance(caught.value, HubUnreachable)
    assert faults.asked == 1
