"""The hub and its client over real gRPC, with real certificates and a real, tiny bundle."""

import datetime
import hashlib
import ipaddress
import json
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click.testing
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from facemorph_core import hub as client
from facemorph_core.bundle.find import fetch_model
from facemorph_core.cli.hub import command
from facemorph_core.cli.main import cli as commands
from facemorph_core.config.schema import AEConfig
from facemorph_core.disk.output import locked
from facemorph_core.errors import (
    BundleError,
    HubError,
    HubUnreachable,
    InvalidReference,
    OutputError,
    UnknownModel,
)
from facemorph_core.hub.proto import hub_pb2, hub_pb2_grpc
from facemorph_core.learning.models.build import build_model
from facemorph_core.learning.release.write import write_bundle
from server.hub.catalogue import Catalogue, publish
from server.hub.serve import SERVICE, start, tls
from tests.damage import KINDS, damage
from tests.starting import heeding_signals

TOKEN = "a-token-for-the-tests-only"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> list[Path]:
    """Two different tiny models."""
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / f"tiny-{seed}.facemorph", seed=seed) for seed in (0, 1)]


def make_bundle(out: Path, *, seed: int) -> Path:
    model = build_model(AEConfig(image_size=32, width=8, latent_dim=8), seed=seed)
    config = {"name": "tiny", "model": {"kind": "ae"}}
    return write_bundle(model, out, config=config, training={"rounds": 1}, metrics={})


@dataclass(frozen=True)
class Authority:
    cert: Path
    key: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Authority:
    return make_certificate(tmp_path_factory.mktemp("certs"))


def make_certificate(folder: Path) -> Authority:
    """A self-signed certificate for localhost and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub under test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Authority(folder / "hub.pem", folder / "hub.key")
    made.cert.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    made.key.chmod(0o600)
    return made


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch, tmp_path):
    for name in ("TOKEN", "TOKEN_FILE", "CA", "INSECURE"):
        monkeypatch.delenv(f"FACEMORPH_HUB_{name}", raising=False)
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("facemorph_core.hub.patience.TRY_PAUSES", (0.01, 0.01))


@pytest.fixture
def shelf(tmp_path, bundles) -> Path:
    """A hub's directory with faces@1 and faces@2."""
    folder = tmp_path / "models"
    for bundle in bundles:
        publish(bundle, folder, "faces")
    return folder


@pytest.fixture
def plain(shelf):
    """A hub in plain text on loopback."""
    running = start(Catalogue(shelf), "127.0.0.1:0", credentials=None)
    yield running
    running.stop(0)


@pytest.fixture
def secure(shelf, certificate):
    """A hub with TLS and a read token."""
    credentials = tls(certificate.cert, certificate.key)
    running = start(Catalogue(shelf), "127.0.0.1:0", credentials=credentials, token=TOKEN)
    yield running
    running.stop(0)


def stub_of(running) -> hub_pb2_grpc.ModelHubStub:
    return hub_pb2_grpc.ModelHubStub(grpc.insecure_channel(running.address))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- publishing ------------------------------------------------------------------------------


def test_versions_count_from_one_and_never_change(tmp_path, bundles):
    first = publish(bundles[0], tmp_path, "faces")
    second = publish(bundles[1], tmp_path, "faces")
    assert [first.version, second.version] == [1, 2]
    assert first.path == tmp_path / "faces" / "1.facemorph"
    assert [sha256(first.path), sha256(second.path)] == [sha256(b) for b in bundles]


def test_the_same_bundle_again_is_the_same_version(tmp_path, bundles):
    assert publish(bundles[0], tmp_path, "faces") == publish(bundles[0], tmp_path, "faces")
    publish(bundles[1], tmp_path, "faces")
    assert publish(bundles[0], tmp_path, "faces").version == 3


def test_a_damaged_bundle_is_not_published(tmp_path, bundles):
    damaged = tmp_path / "damaged.facemorph"
    data = bytearray(bundles[0].read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(BundleError):
        publish(damaged, tmp_path / "models", "faces")
    assert Catalogue(tmp_path / "models").entries() == []


@pytest.mark.parametrize("name", ["../faces", "a/b", ".faces", "", "faces\n"])
def test_a_name_cannot_leave_the_directory(tmp_path, bundles, name):
    with pytest.raises(InvalidReference):
        publish(bundles[0], tmp_path / "models", name)


def test_two_publishers_do_not_take_the_same_number(tmp_path, bundles):
    threads = [
        threading.Thread(target=publish, args=(bundle, tmp_path, "faces")) for bundle in bundles
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = Catalogue(tmp_path).entries()
    assert [entry.version for entry in entries] == [1, 2]
    assert {entry.sha256 for entry in entries} == {sha256(bundle) for bundle in bundles}


def test_what_a_killed_publisher_left_is_not_listed_and_goes(tmp_path, bundles):
    (tmp_path / "faces").mkdir()
    leftover = tmp_path / "faces" / ".1.12345678.facemorph"
    leftover.write_bytes(b"half")
    assert Catalogue(tmp_path).entries() == []
    publish(bundles[0], tmp_path, "faces")
    assert not leftover.exists()


# --- the service -----------------------------------------------------------------------------


def test_the_list_holds_every_version(plain, bundles):
    listed = client.list_models(plain.url)
    assert [(m.name, m.version, m.sha256, m.damaged) for m in listed] == [
        ("faces", number, sha256(bundle), False) for number, bundle in enumerate(bundles, 1)
    ]


def test_a_description_is_the_manifest_in_short(plain, bundles):
    described = client.describe(f"{plain.url}/faces@1")
    assert described.version == 1
    assert described.size == bundles[0].stat().st_size
    assert described.manifest["latent_dim"] == 8
    assert described.manifest["training"] == {"rounds": 1}
    assert "guarantee" in described.manifest["privacy"]
    assert not {"members", "config"} & described.manifest.keys()


@pytest.mark.parametrize("offset", [0, 1, 2**20 - 1, None])
def test_a_download_is_the_header_and_the_bytes_from_the_offset(plain, bundles, offset):
    data = bundles[1].read_bytes()
    offset = len(data) if offset is None else min(offset, len(data))
    request = hub_pb2.DownloadRequest(name="faces", offset=offset)
    header, *chunks = stub_of(plain).Download(request)
    assert header.header == hub_pb2.Header(version=2, size=len(data), sha256=sha256(bundles[1]))
    assert b"".join(chunk.data for chunk in chunks) == data[offset:]


def test_chunks_fit_a_small_message(plain, monkeypatch, bundles):
    monkeypatch.setattr("server.hub.serve.CHUNK", 1000)
    request = hub_pb2.DownloadRequest(name="faces")
    _, *chunks = stub_of(plain).Download(request)
    assert {len(chunk.data) for chunk in chunks[:-1]} == {1000}


@pytest.mark.parametrize(
    ("name", "version", "offset", "code"),
    [
        ("nobody", 0, 0, grpc.StatusCode.NOT_FOUND),
        ("faces", 9, 0, grpc.StatusCode.NOT_FOUND),
        ("../models/faces", 1, 0, grpc.StatusCode.INVALID_ARGUMENT),
        ("..", 0, 0, grpc.StatusCode.INVALID_ARGUMENT),
        ("", 0, 0, grpc.StatusCode.INVALID_ARGUMENT),
        ("faces", 1, 2**40, grpc.StatusCode.OUT_OF_RANGE),
    ],
)
def test_a_wrong_request_has_its_status(plain, name, version, offset, code):
    request = hub_pb2.DownloadRequest(name=name, version=version, offset=offset)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub_of(plain).Download(request))
    assert caught.value.code() is code


def test_a_large_request_is_refused(plain):
    with pytest.raises(grpc.RpcError) as caught:
        stub_of(plain).Describe(hub_pb2.DescribeRequest(name="x" * 2**17))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_damaged_bundle_is_listed_logged_and_not_served(shelf, caplog):
    newest = shelf / "faces" / "2.facemorph"
    newest.write_bytes(newest.read_bytes()[:-1])
    (shelf / "rubbish").mkdir()
    (shelf / "rubbish" / "1.facemorph").write_bytes(b"not a bundle")
    with caplog.at_level(logging.WARNING):
        running = start(Catalogue(shelf), "127.0.0.1:0", credentials=None)
    try:
        assert "faces@2 is not served" in caplog.text
        listed = client.list_models(running.url)
        assert [(m.name, m.version) for m in listed if m.damaged] == [("faces", 2), ("rubbish", 1)]
        with pytest.raises(HubError, match=r"holds a damaged bundle: faces@2") as caught:
            fetch_model(f"{running.url}/faces@2")
        assert str(shelf) not in str(caught.value)
        assert client.describe(f"{running.url}/faces").version == 1
        with pytest.raises(UnknownModel):
            client.describe(f"{running.url}/rubbish")
    finally:
        running.stop(0)


def test_a_bundle_that_appears_or_is_damaged_later_is_noticed(plain, shelf, bundles):
    publish(bundles[0], shelf, "later")
    assert client.describe(f"{plain.url}/later").version == 1
    (shelf / "later" / "1.facemorph").write_bytes(b"overwritten")
    with pytest.raises(UnknownModel):
        client.describe(f"{plain.url}/later")


def test_other_files_in_the_directory_are_none_of_its_business(shelf):
    (shelf / "README.md").write_text("models")
    (shelf / "faces" / "notes.txt").write_text("")
    (shelf / "faces" / "03.facemorph").write_bytes(b"")
    (shelf / "faces" / "4.facemorph").mkdir()
    (shelf / ".trash").mkdir()
    assert [entry.version for entry in Catalogue(shelf).entries()] == [1, 2]


def test_a_missing_directory_is_an_error_with_advice(tmp_path):
    with pytest.raises(HubError, match="not a directory") as caught:
        Catalogue(tmp_path / "none")
    assert "publish" in caught.value.hint


def test_health_is_told_without_a_token(secure, certificate):
    trusted = grpc.ssl_channel_credentials(certificate.cert.read_bytes())
    with grpc.secure_channel(secure.address, trusted) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            reply = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


# --- TLS, tokens, plain text -----------------------------------------------------------------


def test_over_tls_with_the_token(secure, certificate, bundles):
    assert secure.url.startswith("hub://")
    path = fetch_model(f"{secure.url}/faces", token=TOKEN, ca=certificate.cert)
    assert path.read_bytes() == bundles[1].read_bytes()


def test_what_the_environment_says_is_enough(secure, certificate, monkeypatch, tmp_path):
    monkeypatch.setenv("FACEMORPH_HUB_CA", str(certificate.cert))
    file = tmp_path / "token"
    file.write_text(f"{secure.address}={TOKEN}\n")
    file.chmod(0o600)
    monkeypatch.setenv("FACEMORPH_HUB_TOKEN_FILE", str(file))
    assert len(client.list_models(secure.url)) == 2
    monkeypatch.setenv("FACEMORPH_HUB_TOKEN", "other.example.org:1=another-token-that-is-wrong")
    assert len(client.list_models(secure.url)) == 2
    monkeypatch.setenv("FACEMORPH_HUB_TOKEN", f"{secure.address}=another-token-that-is-wrong")
    with pytest.raises(HubError, match="wants a valid read token"):
        client.list_models(secure.url)
    monkeypatch.setenv("FACEMORPH_HUB_TOKEN", TOKEN)
    with pytest.raises(HubError, match="does not say for which hub"):
        client.list_models(secure.url)


class Impostor(hub_pb2_grpc.ModelHubServicer):
    """Another hub: keeps what it is told, and says what it likes."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.refusal = ""
        self.listed = hub_pb2.ListReply()
        self.description = hub_pb2.Description()

    def List(self, request, context):
        self.told += context.invocation_metadata()
        if self.refusal:
            context.abort(grpc.StatusCode.INTERNAL, self.refusal)
        return self.listed

    def Describe(self, request, context):
        self.told += context.invocation_metadata()
        return self.description

    def Download(self, request, context):
        self.told += context.invocation_metadata()
        header = hub_pb2.Header(size=self.description.size, sha256=self.description.sha256)
        yield hub_pb2.Chunk(header=header)
        while context.is_active():
            time.sleep(0.02)
            yield hub_pb2.Chunk(data=b"x")


@pytest.fixture
def impostor():
    servicer, server = Impostor(), grpc.server(ThreadPoolExecutor(4))
    hub_pb2_grpc.add_ModelHubServicer_to_server(servicer, server)
    servicer.url = f"hub+insecure://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(0)


def test_the_token_of_one_hub_never_reaches_another(
    secure, impostor, certificate, monkeypatch, tmp_path
):
    monkeypatch.setenv("FACEMORPH_HUB_CA", str(certificate.cert))
    file = tmp_path / "tokens"
    file.write_text(f"{secure.address}={TOKEN}")
    file.chmod(0o600)
    for name, said in (("TOKEN", file.read_text()), ("TOKEN_FILE", str(file))):
        monkeypatch.setenv(f"FACEMORPH_HUB_{name}", said)
        assert len(client.list_models(secure.url)) == 2
        assert client.list_models(impostor.url) == []
        with pytest.raises(HubError):
            client.describe(f"{impostor.url}/faces")
        with pytest.raises(HubError):
            fetch_model(f"{impostor.url}/faces")
        monkeypatch.delenv(f"FACEMORPH_HUB_{name}")
    asked = ["list", impostor.url, "--token-file", str(file)]
    assert "no token for" in str(CliRunner().invoke(command, asked).exception)
    monkeypatch.setenv("FACEMORPH_HUB_TOKEN", TOKEN)  # of no hub
    with pytest.raises(HubError, match="does not say for which hub"):
        client.list_models(impostor.url)
    assert impostor.told
    assert not [value for _, value in impostor.told if TOKEN in str(value)]
    assert "authorization" not in dict(impostor.told)


@pytest.mark.parametrize("token", [None, TOKEN[:-1] + "x", TOKEN + "x"])
def test_nothing_is_told_without_the_token(secure, certificate, token):
    for ask in (fetch_model, client.describe):
        with pytest.raises(HubError, match="wants a valid read token") as caught:
            ask(f"{secure.url}/faces", token=token, ca=certificate.cert)
        assert "FACEMORPH_HUB_TOKEN" in caught.value.hint


def test_a_hub_whose_certificate_is_not_trusted_gets_no_token(secure, tmp_path):
    stranger = make_certificate(tmp_path)
    with pytest.raises(HubUnreachable) as caught:
        client.list_models(secure.url, token=TOKEN, ca=stranger.cert)
    assert "--ca" in caught.value.hint
    with pytest.raises(HubUnreachable):
        client.list_models(secure.url, token=TOKEN)


def test_plain_text_is_never_tried_unasked(plain, monkeypatch):
    address = f"hub://{plain.address}"
    with pytest.raises(HubUnreachable) as caught:
        client.list_models(address)
    assert "hub+insecure://" in caught.value.hint
    monkeypatch.setenv("FACEMORPH_HUB_INSECURE", "1")
    assert len(client.list_models(address)) == 2


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0"])
def test_plain_text_is_served_on_loopback_only(shelf, address):
    with pytest.raises(HubError, match="loopback only"):
        start(Catalogue(shelf), address, credentials=None)


def test_a_port_in_use_is_an_error(plain, shelf):
    with pytest.raises(HubError, match="cannot listen"):
        start(Catalogue(shelf), plain.address, credentials=None)


def test_bad_certificates_are_named_before_anything_starts(certificate, tmp_path):
    other = make_certificate(tmp_path)
    with pytest.raises(HubError, match="are not a certificate and its key"):
        tls(certificate.cert, other.key)
    with pytest.raises(HubError, match="cannot be read"):
        tls(tmp_path / "none.pem", certificate.key)
    other.key.chmod(0o604)
    with pytest.raises(HubError, match="may read the key"):
        tls(other.cert, other.key)


# --- fetching --------------------------------------------------------------------------------


class Counting:
    """How often the hub's bytes are asked for."""

    def __init__(self, monkeypatch) -> None:
        from server.hub.serve import ModelHub

        self.offsets: list[int] = []
        download = ModelHub.Download

        def counted(servicer, request, context):
            self.offsets.append(request.offset)
            return download(servicer, request, context)

        monkeypatch.setattr(ModelHub, "Download", counted)


def hub_on(shelf: Path):
    return start(Catalogue(shelf), "127.0.0.1:0", credentials=None)


def test_it_is_fetched_once(shelf, bundles, monkeypatch):
    counting = Counting(monkeypatch)
    running = hub_on(shelf)
    try:
        paths = {fetch_model(f"{running.url}/faces@{v}") for v in ("latest", "2", "latest")}
        (path,) = paths
        assert path.read_bytes() == bundles[1].read_bytes()
        assert path.name == f"2-{sha256(path)[:12]}.facemorph"
        assert path.parent.name == "faces"
        assert path.parent.parent.name == running.address.replace(":", "_")
        assert counting.offsets == [0]
        assert fetch_model(f"{running.url}/faces@1").read_bytes() == bundles[0].read_bytes()
    finally:
        running.stop(0)


def test_a_download_that_broke_off_is_resumed(shelf, bundles, monkeypatch, tmp_path):
    counting = Counting(monkeypatch)
    running = hub_on(shelf)
    try:
        path = fetch_model(f"{running.url}/faces")
        whole = path.read_bytes()
        path.rename(path.with_name(f"{path.name}.partial")).write_bytes(whole[:1234])
        assert fetch_model(f"{running.url}/faces").read_bytes() == whole
        assert counting.offsets == [0, 1234]
        assert [p.name for p in path.parent.iterdir() if p.suffix == ".facemorph"] == [path.name]
        assert not list(path.parent.glob("*.partial"))
    finally:
        running.stop(0)


def test_without_the_hub_the_newest_that_is_there_serves(shelf, caplog):
    running = hub_on(shelf)
    one, two = (fetch_model(f"{running.url}/faces@{version}") for version in (1, 2))
    running.stop(0)
    with caplog.at_level(logging.WARNING):
        assert fetch_model(f"{running.url}/faces@latest") == two
    assert "using the newest version in the cache" in caplog.text
    assert fetch_model(f"{running.url}/faces@1") == one
    with pytest.raises(HubUnreachable):
        fetch_model(f"{running.url}/faces@3")
    with pytest.raises(HubUnreachable):
        fetch_model(f"{running.url}/others")


@pytest.mark.parametrize("fault", ["rotten", "gone"])
def test_without_the_hub_no_older_version_serves_as_the_newest(shelf, fault):
    running = hub_on(shelf)
    one, two = (fetch_model(f"{running.url}/faces@{version}") for version in (1, 2))
    running.stop(0)
    two.write_bytes(two.read_bytes()[:-1]) if fault == "rotten" else two.unlink()
    with pytest.raises(
        HubUnreachable, match="newest version that it gave, faces@2, is not"
    ) as told:
        fetch_model(f"{running.url}/faces")
    assert "an older version" in told.value.hint
    assert fetch_model(f"{running.url}/faces@1") == one


def test_what_no_hub_gave_is_not_served_from_the_cache(shelf, bundles):
    running = hub_on(shelf)
    one = fetch_model(f"{running.url}/faces@1")
    running.stop(0)
    dropped = one.with_name(f"9-{sha256(bundles[1])[:12]}.facemorph")
    shutil.copyfile(bundles[1], dropped)
    assert fetch_model(f"{running.url}/faces") == one
    with pytest.raises(HubUnreachable):
        fetch_model(f"{running.url}/faces@9")
    pin = f"{running.url}/faces@9#{sha256(bundles[1])}"
    assert fetch_model(pin) == dropped  # whoever pins says which bytes


def test_a_refusal_is_not_taken_for_silence(shelf, certificate):
    credentials = tls(certificate.cert, certificate.key)
    running = start(Catalogue(shelf), "127.0.0.1:0", credentials=credentials, token=TOKEN)
    try:
        fetch_model(f"{running.url}/faces", token=TOKEN, ca=certificate.cert)
        with pytest.raises(HubError, match="read token"):
            fetch_model(f"{running.url}/faces", ca=certificate.cert)
    finally:
        running.stop(0)


def test_a_damaged_file_in_the_cache_is_fetched_again(plain, bundles, caplog):
    path = fetch_model(f"{plain.url}/faces@1")
    path.write_bytes(path.read_bytes()[:-1])
    assert fetch_model(f"{plain.url}/faces@1").read_bytes() == bundles[0].read_bytes()
    assert caplog.text.count("is damaged; fetching it again") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_however_it_is_damaged(kind, plain, bundles, caplog):
    path = fetch_model(f"{plain.url}/faces@1")
    damage(path, kind)
    for name in ("faces@1", f"faces@1#{sha256(bundles[0])}"):
        assert fetch_model(f"{plain.url}/{name}").read_bytes() == bundles[0].read_bytes()
    assert caplog.text.count("is damaged; fetching it again") == 1


def test_without_the_hub_a_damaged_file_is_said(shelf):
    running = hub_on(shelf)
    path = fetch_model(f"{running.url}/faces@1")
    running.stop(0)
    damage(path, "a bit in the middle")
    with pytest.raises(HubUnreachable, match="the cache holds faces@1, but damaged"):
        fetch_model(f"{running.url}/faces@1")
    path.unlink()
    with pytest.raises(HubUnreachable) as told:
        fetch_model(f"{running.url}/faces@1")
    assert "damaged" not in str(told.value)


def test_what_is_no_bundle_never_reaches_the_cache(plain, monkeypatch):
    def refused(path):
        raise BundleError(f"{path} is damaged")

    monkeypatch.setattr("facemorph_core.bundle.read.open_bundle", refused)
    with pytest.raises(BundleError):
        fetch_model(f"{plain.url}/faces")
    from facemorph_core.disk.cache import cache_dir

    assert not [*cache_dir().rglob("*.facemorph*")]


def test_several_at_once_fetch_once(shelf, monkeypatch):
    counting = Counting(monkeypatch)
    running = hub_on(shelf)
    try:
        paths: list[Path] = []
        threads = [
            threading.Thread(target=lambda: paths.append(fetch_model(f"{running.url}/faces")))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(paths)) == 1
        assert len(paths) == 4
        assert counting.offsets == [0]
    finally:
        running.stop(0)


@pytest.mark.timeout(300)  # a wait behind others is what this is about
def test_nobody_waits_for_a_hub_that_is_down_behind_another(shelf):
    running = hub_on(shelf)
    held = fetch_model(f"{running.url}/faces")
    running.stop(0)
    with locked(held.parent / ".lock"):
        assert fetch_model(f"{running.url}/faces") == held
        with pytest.raises(HubUnreachable):
            fetch_model(f"{running.url}/faces@9")


def test_who_waits_for_another_process_says_so(plain, caplog):
    folder = fetch_model(f"{plain.url}/faces@2").parent
    with ThreadPoolExecutor(1) as reader:
        with locked(folder / ".lock"):
            waiting = reader.submit(fetch_model, f"{plain.url}/faces@1")
            while "another process is fetching faces" not in caplog.text:
                assert not waiting.done()
                time.sleep(0.01)
        assert waiting.result().name.startswith("1-")


def test_a_lying_hub_cannot_choose_the_files_name(plain, monkeypatch):
    from facemorph_core.hub.channel import Hub

    for lie in (
        {"name": "../../faces", "version": 1, "size": 5, "sha256": "0" * 64},
        {"name": "faces", "version": 7, "size": 5, "sha256": "0" * 64},
        {"name": "faces", "version": 1, "size": 5, "sha256": "../../../x"},
    ):
        reply = hub_pb2.Description(**lie)
        monkeypatch.setattr(Hub, "describe", lambda *_, reply=reply: reply)
        with pytest.raises(HubError):
            fetch_model(f"{plain.url}/faces@1")


def test_only_names_and_numbers_go_to_the_hub():
    requests = (hub_pb2.ListRequest, hub_pb2.DescribeRequest, hub_pb2.DownloadRequest)
    fields = [field for request in requests for field in request.DESCRIPTOR.fields]
    assert {field.name for field in fields} == {"name", "version", "offset"}
    assert not [field for field in fields if field.type == field.TYPE_BYTES]


def announce(impostor: Impostor, **more) -> None:
    fields = {"name": "faces", "version": 1, "size": 10**6, "sha256": "0" * 64}
    impostor.description = hub_pb2.Description(**(fields | {"manifest_json": "{}"} | more))


def test_a_hub_that_drips_byte_after_byte_is_left(impostor, monkeypatch):
    monkeypatch.setattr("facemorph_core.hub.channel.ATTEMPT_SECONDS", 0.5)
    announce(impostor)
    with pytest.raises(HubUnreachable):
        fetch_model(f"{impostor.url}/faces")


# --- a cache that cannot be written ----------------------------------------------------------


MOUNTED = (
    *("unshare", "--map-root-user", "--mount", "sh", "-c"),
    'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"',
)
ANOTHER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
HUB_FETCH = (sys.executable, "-m", "facemorph_core", "hub", "fetch")


@pytest.fixture(params=["a disk that is read-only", "another user's"])
def fetch_read_only(request, monkeypatch):
    """The command of a reader who cannot write the cache."""
    with tempfile.TemporaryDirectory(prefix="cache-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("FACEMORPH_CACHE", folder)
        before = (*MOUNTED, folder) if "disk" in request.param else ANOTHER
        top = Path(__file__).parents[3]
        if (
            shutil.which(before[0]) is None
            or subprocess.run(
                [*before, sys.executable, "-c", "import grpc"],
                cwd=top,
                capture_output=True,
                check=False,
            ).returncode
        ):
            pytest.skip(f"{before[0]} does nothing here")
        yield lambda url: subprocess.run(
            [*before, *HUB_FETCH, url], cwd=top, capture_output=True, text=True, check=False
        )


def test_a_read_only_cache_serves_what_it_holds(plain, fetch_read_only):
    held = fetch_model(f"{plain.url}/faces")
    done = fetch_read_only(f"{plain.url}/faces")
    assert (done.returncode, done.stdout.strip()) == (0, str(held)), done.stderr
    done = fetch_read_only(f"{plain.url}/faces@1")
    assert done.returncode == OutputError.exit_code
    what, way_out = done.stderr.splitlines()
    assert what.startswith(f"error: {held.parent} cannot be written: ")
    assert "set FACEMORPH_CACHE to a folder that can be written" in way_out


def no_lock_file(folder: Path) -> None:
    """Not even root can write it."""
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock").mkdir()


def test_a_shelf_that_cannot_be_locked_serves_what_it_holds(shelf):
    running = hub_on(shelf)
    fetch_model(f"{running.url}/faces@1")
    held = fetch_model(f"{running.url}/faces")
    no_lock_file(held.parent)
    running.stop(0)
    assert fetch_model(f"{running.url}/faces") == held
    assert fetch_model(f"{running.url}/faces@1").name.startswith("1-")


def test_a_shelf_that_cannot_be_locked_takes_nothing_new(plain):
    held = fetch_model(f"{plain.url}/faces@2")
    no_lock_file(held.parent)
    before = {path.name for path in held.parent.iterdir()}
    assert fetch_model(f"{plain.url}/faces@2") == held
    assert fetch_model(f"{plain.url}/faces") == held
    (held.parent / "seen.json").unlink()  # as it is in a cache that somebody copied
    assert fetch_model(f"{plain.url}/faces") == held
    with pytest.raises(OutputError, match="cannot be written") as caught:
        fetch_model(f"{plain.url}/faces@1")
    assert "FACEMORPH_CACHE" in caught.value.hint
    held.write_bytes(held.read_bytes()[:-1])
    for version in ("2", "latest"):
        with pytest.raises(OutputError, match="cannot be written"):
            fetch_model(f"{plain.url}/faces@{version}")
    assert {path.name for path in held.parent.iterdir()} == before - {"seen.json"}


def test_a_cache_that_cannot_even_be_made_is_named_with_the_way_out(plain, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match="cannot be written") as caught:
        fetch_model(f"{plain.url}/faces")
    assert "FACEMORPH_CACHE" in caught.value.hint


def test_what_a_hub_gave_before_must_be_readable(plain):
    folder = fetch_model(f"{plain.url}/faces").parent
    (folder / "seen.json").unlink()
    (folder / "seen.json").mkdir()
    for ask in (fetch_model, client.describe):
        with pytest.raises(HubError, match=r"seen\.json cannot be read"):
            ask(f"{plain.url}/faces")


# --- versions that never go back, and pins ---------------------------------------------------


def test_the_newest_version_never_goes_back(plain, shelf, bundles):
    fetch_model(f"{plain.url}/faces")
    (shelf / "faces" / "2.facemorph").unlink()
    for ask in (fetch_model, client.describe):
        with pytest.raises(HubError, match="is version 1, and was 2 before") as caught:
            ask(f"{plain.url}/faces@latest")
        assert "faces@1" in caught.value.hint
        assert "seen.json" in caught.value.hint
    assert fetch_model(f"{plain.url}/faces@1").read_bytes() == bundles[0].read_bytes()
    with pytest.raises(HubError, match="was 2 before"):
        fetch_model(f"{plain.url}/faces")


def test_a_version_that_is_older_by_name_is_no_way_back(plain, bundles):
    fetch_model(f"{plain.url}/faces@2")
    assert fetch_model(f"{plain.url}/faces@1").read_bytes() == bundles[0].read_bytes()
    assert fetch_model(f"{plain.url}/faces").read_bytes() == bundles[1].read_bytes()


def test_a_version_keeps_its_bytes(plain, shelf, bundles, monkeypatch):
    path = fetch_model(f"{plain.url}/faces@2")
    path.unlink()
    (shelf / "faces" / "2.facemorph").write_bytes(bundles[0].read_bytes())
    for version in ("2", "latest"):
        with pytest.raises(HubError, match="offers other bytes as faces@2 than before") as caught:
            fetch_model(f"{plain.url}/faces@{version}")
    pin = f"{plain.url}/faces@2#{sha256(bundles[0])}"
    assert pin in caught.value.hint
    old = shutil.copyfile(bundles[1], path)  # as it lies there if it was not removed
    assert fetch_model(pin).read_bytes() == bundles[0].read_bytes()
    assert old.exists()
    for version in ("2", "latest"):
        again = fetch_model(f"{plain.url}/faces@{version}")
        assert again.read_bytes() == bundles[0].read_bytes()


def test_what_a_hub_only_says_is_not_remembered(impostor, plain):
    announce(impostor, version=999)
    client.describe(f"{impostor.url}/faces")
    announce(impostor, version=1)
    assert client.describe(f"{impostor.url}/faces").version == 1


def test_another_hub_and_another_name_have_versions_of_their_own(plain, shelf, bundles):
    fetch_model(f"{plain.url}/faces")
    publish(bundles[0], shelf, "others")
    assert fetch_model(f"{plain.url}/others").name.startswith("1-")
    running = hub_on(shelf)
    try:
        (shelf / "faces" / "2.facemorph").unlink()
        assert fetch_model(f"{running.url}/faces").name.startswith("1-")
    finally:
        running.stop(0)


def test_what_was_seen_is_not_lost_when_it_is_damaged(plain, tmp_path):
    path = fetch_model(f"{plain.url}/faces")
    for wrong in ("", "[]", "{", '{"newest": "x", "sha256": {}}', "[" * 100_000):
        (path.parent / "seen.json").write_text(wrong)
        with pytest.raises(HubError, match=r"seen\.json is damaged") as caught:
            fetch_model(f"{plain.url}/faces")
        assert "remove it" in caught.value.hint


def test_a_pin_takes_these_bytes_or_none(plain, shelf, bundles):
    pin = f"{plain.url}/faces@1#{sha256(bundles[0])}"
    wrong = f"{plain.url}/faces@1#{sha256(bundles[1])}"
    with pytest.raises(HubError, match="with another SHA-256 than the one that was named"):
        fetch_model(wrong)
    with pytest.raises(HubError, match="another SHA-256"):
        client.describe(wrong)
    path = fetch_model(pin)
    assert path.read_bytes() == bundles[0].read_bytes()
    assert client.pinned(f"{plain.url}/faces@1", path) == pin
    with pytest.raises(HubError, match="another SHA-256"):
        fetch_model(wrong)  # although a version 1 lies in the cache


def test_a_pinned_version_needs_no_hub(shelf, bundles):
    running = hub_on(shelf)
    pin = f"{running.url}/faces@1#{sha256(bundles[0])}"
    path = fetch_model(pin)
    running.stop(0)
    assert fetch_model(pin) == path


# --- what a hub says, on a terminal ----------------------------------------------------------

NASTY = "\x1b]0;pwned\x07\x1b[2J\nfaces\u202e"


@pytest.mark.parametrize("name", [NASTY, "", "a/b", "..", "faces\n", "x" * 65])
def test_a_list_with_a_name_that_cannot_be_is_refused(impostor, name):
    version = hub_pb2.Version(number=1, size=5, sha256="0" * 64)
    impostor.listed = hub_pb2.ListReply(models=[hub_pb2.Model(name=name, versions=[version])])
    with pytest.raises(HubError, match="lists what cannot be a model") as caught:
        client.list_models(impostor.url)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "version",
    [
        {"number": 0, "size": 5, "sha256": "0" * 64},
        {"number": 1, "size": 2**50, "sha256": "0" * 64},
        {"number": 1, "size": 5, "sha256": NASTY},
        {"number": 1, "size": 5, "sha256": NASTY, "damaged": True},
        {"number": 1, "size": 5, "sha256": ""},
    ],
)
def test_a_list_with_a_version_that_cannot_be_is_refused(impostor, version):
    model = hub_pb2.Model(name="faces", versions=[hub_pb2.Version(**version)])
    impostor.listed = hub_pb2.ListReply(models=[model])
    with pytest.raises(HubError, match="lists what cannot be a model"):
        client.list_models(impostor.url)


@pytest.mark.parametrize("text", [NASTY, "", "[1]", "[" * 100_000, "1" * 5000, '{"a":' * 990])
def test_a_manifest_that_is_none_is_refused(impostor, text):
    announce(impostor, manifest_json=text)
    with pytest.raises(HubError, match="a manifest that is none"):
        client.describe(f"{impostor.url}/faces")


def test_nothing_that_a_hub_says_reaches_the_terminal_as_it_is(impostor):
    announce(impostor, manifest_json=json.dumps({NASTY: NASTY}))
    result = CliRunner().invoke(command, ["describe", f"{impostor.url}/faces"])
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.output.split("\n"))

    impostor.refusal = NASTY
    with pytest.raises(HubError) as caught:
        client.list_models(impostor.url)
    assert str(caught.value).isprintable()


# --- the commands ----------------------------------------------------------------------------


def test_the_readers_commands(plain, bundles):
    listed = CliRunner().invoke(command, ["list", plain.url])
    assert listed.stdout.splitlines()[1].split()[0] == "faces@2"
    as_json = CliRunner().invoke(command, ["list", plain.url, "--json"])
    assert json.loads(as_json.stdout)[0]["sha256"] == sha256(bundles[0])
    described = CliRunner().invoke(command, ["describe", f"{plain.url}/faces"])
    assert json.loads(described.stdout)["version"] == 2
    fetched = CliRunner().invoke(command, ["fetch", f"{plain.url}/faces"])
    assert sha256(Path(fetched.stdout.strip())) == sha256(bundles[1])
    pin = f"{plain.url}/faces@2#{sha256(bundles[1])}"
    assert pin in listed.stdout
    assert json.loads(as_json.stdout)[1]["reference"] == pin
    assert json.loads(described.stdout)["reference"] == pin
    assert pin in fetched.stderr


def test_inspect_shows_the_reference_of_what_a_hub_gave(plain, bundles):
    pin = f"{plain.url}/faces@2#{sha256(bundles[1])}"
    run = click.testing.CliRunner().invoke
    shown = run(commands, ["inspect", f"{plain.url}/faces"])
    assert pin in shown.stdout
    as_json = run(commands, ["inspect", f"{plain.url}/faces", "--json"])
    assert json.loads(as_json.stdout)["reference"] == pin
    of_a_file = run(commands, ["inspect", str(bundles[0])])
    assert "reference" not in of_a_file.stdout


def run_server(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        heeding_signals([sys.executable, "-m", "server", *map(str, arguments)]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_operators_commands_and_a_quiet_end(tmp_path, bundles, number):
    published = run_server("publish", bundles[0], tmp_path, "--name", "faces")
    path, _ = published.communicate()
    assert Path(path.strip()) == tmp_path / "faces" / "1.facemorph"
    process = run_server("hub", tmp_path, "--address", "127.0.0.1:0", "--insecure-loopback")
    try:
        line = process.stdout.readline().strip()
        assert line.startswith("listening on hub+insecure://127.0.0.1:"), process.communicate()
        url = line.removeprefix("listening on ")
        assert fetch_model(f"{url}/faces").read_bytes() == bundles[0].read_bytes()
        process.send_signal(number)
        rest, log = process.communicate()
        assert (process.returncode, rest) == (0, "")
        assert "faces@1" in log
        assert "Traceback" not in log
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs --cert and --key, or --insecure-loopback"),
        (["--cert", "x"], "needs --cert and --key"),
        (["--insecure-loopback", "--address", "0.0.0.0:0"], "loopback only"),
        (["--insecure-loopback", "--token-file", "/nonexistent"], "cannot be read"),
    ],
)
def test_a_hub_that_would_be_unsafe_does_not_start(tmp_path, arguments, said, monkeypatch):
    from server.__main__ import app

    result = CliRunner().invoke(app, ["hub", str(tmp_path), *arguments])
    assert isinstance(result.exception, HubError)
    assert said in str(result.exception)
