"""Why a hub cannot be reached: each cause by its own name, with a way out, from real servers."""

from __future__ import annotations

import contextlib
import http.server
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from facemorph_core import hub as client
from facemorph_core.cli.edge import exit_code_of
from facemorph_core.cli.main import cli as commands
from facemorph_core.errors import HubError, HubUnreachable, HubUnusable
from facemorph_core.hub import probe
from facemorph_core.hub.channel import our_errors
from facemorph_core.hub.outlet import proxy_of_environment
from facemorph_core.hub.reference import HubAddress
from server.coordinator.authority import known_authority
from server.coordinator.certificates import Credentials, create
from server.coordinator.hosts import as_address
from server.hub import serve as hub
from tests.proxies import Proxy, proxy

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
SSH = b"SSH-2.0-OpenSSH_9.2 waits here\r\n"


class NoModels:
    """A catalogue of nothing."""

    def entries(self) -> list:
        return []


@dataclass
class World:
    """An authority, what runs for the length of a test, and the environment of the reader."""

    keys: Credentials
    stack: ExitStack
    patch: pytest.MonkeyPatch

    def hub(self, *hosts: str, begins: datetime = NOW - DAY, ends: datetime = NOW + DAY) -> int:
        """The port of a hub with a certificate, or in plain text where it is for no host."""
        credentials = self.credentials(hosts, begins, ends) if hosts else None
        running = hub.start(NoModels(), "127.0.0.1:0", credentials=credentials)
        self.stack.callback(running.stop, 0)
        return int(running.address.rpartition(":")[2])

    def credentials(self, hosts, begins: datetime, ends: datetime) -> grpc.ServerCredentials:
        chain, key = self.certificate(hosts, begins, ends)
        return grpc.ssl_server_credentials([(key, chain)])

    def certificate(self, hosts, begins: datetime, ends: datetime) -> tuple[bytes, bytes]:
        authority = known_authority(self.keys.ca, self.keys.ca_key)
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_alternative(host) for host in hosts]
        made = (
            x509.CertificateBuilder()
            .issuer_name(authority.certificate.subject)
            .subject_name(x509.Name([]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .sign(authority.key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return made.public_bytes(pem), private

    def tls_context(self) -> ssl.SSLContext:
        chain, key = self.certificate(["127.0.0.1"], NOW - DAY, NOW + DAY)
        both = self.keys.folder / "web.pem"
        both.write_bytes(chain + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        return context

    def web_server(self, *, tls: bool = False) -> int:
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
        )
        server.RequestHandlerClass.log_message = lambda *said: None
        if tls:
            server.socket = self.tls_context().wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.stack.callback(server.server_close)
        self.stack.callback(server.shutdown)
        return server.server_port

    def program(self, says: bytes) -> int:
        """The port of something that says this to everybody, and then nothing."""
        door = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        kept = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = door.accept()
                    kept.append(caller)
                    caller.sendall(says)

        threading.Thread(target=serve, daemon=True).start()
        self.stack.callback(door.shutdown, socket.SHUT_RDWR)
        return int(door.getsockname()[1])

    def drips(self, beginning: bytes) -> int:
        """The port of something that says this, and then a byte again and again, for ever."""
        return self.serves(lambda caller: _drip(caller, beginning))

    def ends_handshakes(self) -> int:
        """The port of something that hears TLS and leaves, and answers all else with an alert."""

        def serve(caller: socket.socket) -> None:
            with caller:
                if not caller.recv(512).startswith(b"\x16\x03"):
                    caller.sendall(b"\x15\x03\x03\x00\x02\x02\x46")

        return self.serves(serve)

    def serves(self, serve: Callable[[socket.socket], None]) -> int:
        """The port of something that does this with everybody, each in a thread."""
        door = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def one(caller: socket.socket) -> None:
            with contextlib.suppress(OSError):
                serve(caller)

        def wait() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=(door.accept()[0],), daemon=True).start()

        threading.Thread(target=wait, daemon=True).start()
        self.stack.callback(door.shutdown, socket.SHUT_RDWR)
        return int(door.getsockname()[1])

    def proxy(self, *arguments, **more) -> Proxy:
        """The reader's, for all that is not on this machine."""
        made = self.stack.enter_context(proxy(*arguments, **more))
        self.use(made)
        return made

    def use(self, made: Proxy) -> None:
        for name, value in made.environment.items():
            self.patch.setenv(name, value)


def _drip(caller: socket.socket, beginning: bytes) -> None:
    with caller:
        caller.sendall(beginning)
        while True:
            time.sleep(0.01)
            caller.sendall(b"x")


def _alternative(host: str) -> x509.GeneralName:
    address = as_address(host)
    return x509.DNSName(host) if address is None else x509.IPAddress(address)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Credentials:
    return create(tmp_path_factory.mktemp("keys"), hosts=["127.0.0.1"])


@pytest.fixture
def world(keys, tmp_path, monkeypatch) -> Iterator[World]:
    for name in ("TOKEN", "TOKEN_FILE", "CA", "INSECURE"):
        monkeypatch.delenv(f"FACEMORPH_HUB_{name}", raising=False)
    for name in Proxy("").environment:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEMORPH_HUB_CA", str(keys.ca))
    monkeypatch.setattr("facemorph_core.hub.patience.TRY_PAUSES", (0.01, 0.01))
    monkeypatch.setattr(probe, "SECONDS", 100.0)  # what says nothing sets it lower
    with ExitStack() as stack:
        yield World(keys, stack, monkeypatch)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


# --- each cause ------------------------------------------------------------------------------


def another_host(world: World) -> str:
    return f"hub://127.0.0.1:{world.hub('models.example.org', '192.0.2.7')}"


def another_name(world: World) -> str:
    world.proxy(leads_to=world.hub("models.example.org"))
    return "hub://model.example.org:8765"


def expired(world: World) -> str:
    return f"hub://127.0.0.1:{world.hub('127.0.0.1', begins=NOW - 9 * DAY, ends=NOW - DAY)}"


def not_yet(world: World) -> str:
    return f"hub://127.0.0.1:{world.hub('127.0.0.1', begins=NOW + DAY, ends=NOW + 9 * DAY)}"


def another_authority(world: World) -> str:
    stranger = create(world.keys.folder / "other", hosts=["127.0.0.1"])
    world.patch.setenv("FACEMORPH_HUB_CA", str(stranger.ca))
    return f"hub://127.0.0.1:{world.hub('127.0.0.1')}"


def no_authority(world: World) -> str:
    world.patch.delenv("FACEMORPH_HUB_CA")
    return f"hub://127.0.0.1:{world.hub('127.0.0.1')}"


def plain_hub_over_tls(world: World) -> str:
    return f"hub://127.0.0.1:{world.hub()}"


def plain_hub_elsewhere(world: World) -> str:
    world.proxy(leads_to=world.hub())
    return "hub://models.example.org:8765"


def tls_hub_in_plain(world: World) -> str:
    return f"hub+insecure://127.0.0.1:{world.hub('127.0.0.1')}"


def web_server_over_tls(world: World) -> str:
    return f"hub://127.0.0.1:{world.web_server()}"


def web_server_in_plain(world: World) -> str:
    return f"hub+insecure://127.0.0.1:{world.web_server()}"


def web_server_with_tls(world: World) -> str:
    return f"hub://127.0.0.1:{world.web_server(tls=True)}"


def ssh_over_tls(world: World) -> str:
    return f"hub://127.0.0.1:{world.program(SSH)}"


def ssh_in_plain(world: World) -> str:
    return f"hub+insecure://127.0.0.1:{world.program(SSH)}"


def wants_a_certificate(world: World) -> str:
    """Of its readers, as some proxies in front of hubs do; in TLS 1.3 it says so late."""
    context = world.tls_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(world.keys.ca)
    context.set_alpn_protocols(["h2"])

    def serve(caller: socket.socket) -> None:
        with caller.dup() as kept:
            with contextlib.suppress(ssl.SSLError):
                context.wrap_socket(caller, server_side=True)
            while kept.recv(512):  # or what we said might be lost with what we did not read
                pass

    return f"hub://127.0.0.1:{world.serves(serve)}"


def hub_that_wants_a_certificate(world: World) -> str:
    """gRPC does not say so."""
    chain, key = world.certificate(["127.0.0.1"], NOW - DAY, NOW + DAY)
    ca = world.keys.ca.read_bytes()
    credentials = grpc.ssl_server_credentials([(key, chain)], ca, require_client_auth=True)
    running = hub.start(NoModels(), "127.0.0.1:0", credentials=credentials)
    world.stack.callback(running.stop, 0)
    return f"hub://{running.address}"


def loaded(world: World) -> str:
    """It takes connections, and has no time for more."""
    world.patch.setattr("facemorph_core.hub.channel.ASK_SECONDS", 1.0)
    world.patch.setattr(probe, "SECONDS", 0.3)
    return f"hub://127.0.0.1:{world.program(b'')}"


def loaded_and_speaks_tls(world: World) -> str:
    """It ends the handshake, and answers plain text with an alert."""
    return f"hub://127.0.0.1:{world.ends_handshakes()}"


def name_that_cannot_be_of_a_proxy(world: World) -> str:
    world.use(Proxy("http://proxy..example.org:3128"))
    return "hub://models.example.org:8765"


def proxy_that_says_nothing(world: World) -> str:
    world.patch.setattr("facemorph_core.hub.channel.ASK_SECONDS", 1.0)
    world.patch.setattr(probe, "SECONDS", 0.3)
    world.use(Proxy(f"http://127.0.0.1:{world.program(b'')}"))
    return "hub://models.example.org:8765"


def refusing_proxy(world: World) -> str:
    world.proxy("403 Forbidden by \x1b[2J policy")
    return "hub://models.example.org:8765"


def proxy_that_wants_a_password(world: World) -> str:
    world.proxy("407 Proxy Authentication Required")
    return "hub://models.example.org:8765"


def no_proxy_at_all(world: World) -> str:
    world.use(Proxy(f"http://reader:very-secret@127.0.0.1:{free_port()}"))
    return "hub://models.example.org:8765"


def nobody(world: World) -> str:
    return f"hub://127.0.0.1:{free_port()}"


def nobody_in_plain(world: World) -> str:
    return f"hub+insecure://127.0.0.1:{free_port()}"


def no_such_name(world: World) -> str:
    _names_fail(world, socket.EAI_NONAME)
    return "hub://models.example.invalid:8765"


def no_network(world: World) -> str:
    _names_fail(world, socket.EAI_AGAIN)
    return "hub://models.example.invalid:8765"


def no_answer_about_the_name(world: World) -> str:
    _names_fail(world, socket.EAI_FAIL)
    return "hub://models.example.invalid:8765"


def _names_fail(world: World, code: int) -> None:
    """As the system's resolver does; what answers here depends on the network of the day."""

    def fail(*asked: object) -> None:
        raise socket.gaierror(code, "it fails")

    world.patch.setattr(socket, "getaddrinfo", fail)


DATE = r"\d{4}-\d{2}-\d{2} \d{2}:\d{2} UTC"
CAUSES: list[tuple[Callable[[World], str], type[HubError], str, str]] = [
    (another_host, HubUnusable, r"is for models\.example\.org, 192\.0\.2\.7, not 127", "for 127"),
    (another_name, HubUnusable, r"is for models\.example\.org, not model\.", r"\(models\.example"),
    (expired, HubUnusable, f"expired on {DATE}", "renew it"),
    (not_yet, HubUnusable, f"not valid before {DATE}", f"clock of this machine says {DATE}"),
    (another_authority, HubUnusable, r"signed by none of those in .*ca\.crt", "--ca"),
    (no_authority, HubUnusable, "nobody whom this machine trusts", "--ca or .FACEMORPH_HUB_CA"),
    (plain_hub_over_tls, HubUnusable, "speaks plain text", r"hub\+insecure://127"),
    (plain_hub_elsewhere, HubUnusable, "speaks plain text", "--cert and --key"),
    (tls_hub_in_plain, HubUnusable, "speaks TLS and was asked in plain", r"write hub://127"),
    (web_server_over_tls, HubUnusable, "a web server answers", "check the port"),
    (web_server_in_plain, HubUnusable, "a web server answers", "check the port"),
    (web_server_with_tls, HubUnusable, "a web server answers", "check the port"),
    (ssh_over_tls, HubUnusable, "is no model hub", "check the port"),
    (ssh_in_plain, HubUnusable, "is no model hub", "check the port"),
    (refusing_proxy, HubUnusable, r"the proxy 127.* refuses .*models.*: 403 F", "no_proxy"),
    (proxy_that_wants_a_password, HubUnusable, "refuses the way .*: 407", "grpc_proxy names it"),
    (no_proxy_at_all, HubUnreachable, "the proxy 127.* cannot be reached", "grpc_proxy names it"),
    (nobody, HubUnreachable, "nothing listens on port", "that the hub is running"),
    (nobody_in_plain, HubUnreachable, "nothing listens on port", "that the hub is running"),
    (no_such_name, HubUnusable, r"there is no host models\.example\.invalid", "how it is written"),
    (no_network, HubUnreachable, "cannot be looked up now", "is this machine connected"),
    (no_answer_about_the_name, HubUnreachable, r"looked up now \(it fails\)", "connected"),
    (wants_a_certificate, HubUnusable, "refuses the connection over TLS: .*cert", "who runs"),
    (hub_that_wants_a_certificate, HubUnreachable, "as soon as TLS", "want a certificate"),
    (loaded, HubUnreachable, "does not finish TLS", "try again in a minute"),
    (loaded_and_speaks_tls, HubUnreachable, "does not finish TLS", "try again in a minute"),
    (name_that_cannot_be_of_a_proxy, HubUnusable, "no host proxy..example.org", "is written"),
    (proxy_that_says_nothing, HubUnreachable, "the proxy 127.* does not answer", "names it"),
]


@pytest.mark.parametrize(
    ("cause", "kind", "said", "hint"), CAUSES, ids=[each[0].__name__ for each in CAUSES]
)
def test_each_cause_is_named_once_with_its_own_way_out(
    cause: Callable[[World], str], kind: type[HubError], said: str, hint: str, world: World, capsys
):
    url = cause(world)
    with pytest.raises(HubUnreachable) as caught:
        client.list_models(url)
    assert type(caught.value) is kind
    assert re.search(said, str(caught.value)), caught.value
    assert re.search(hint, caught.value.hint), caught.value.hint

    asked = ["hub", "fetch", f"{url}/faces"]
    assert exit_code_of(lambda: commands.main(asked, standalone_mode=False)) == 11
    shown = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in shown] == ["error", " hint"]
    assert all(line.isprintable() and len(line) < 300 for line in shown)
    assert "very-secret" not in "".join(shown)


def test_what_says_nothing_is_named_too(world, monkeypatch):
    monkeypatch.setattr("facemorph_core.hub.channel.ASK_SECONDS", 1.0)
    monkeypatch.setattr(probe, "SECONDS", 0.3)
    with pytest.raises(HubUnreachable, match="says nothing") as caught:
        client.list_models(f"hub+insecure://127.0.0.1:{world.program(b'')}")
    assert "check the port" in caught.value.hint


@pytest.mark.timeout(120)  # a look that goes on for ever is what this is about
@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nX: "])
def test_who_drips_does_not_hold_us(beginning, world, monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.3)
    port = world.drips(beginning)
    for plain_text in (True, False):
        here = probe.Asked(HubAddress("127.0.0.1", port), plain_text, None, None)
        assert isinstance(probe.obstacle(here), HubUnreachable)
    world.use(Proxy(f"http://127.0.0.1:{port}"))
    there = probe.Asked(HubAddress("models.example.org"), False, None, None)
    assert "does not answer" in str(probe.obstacle(there))


ENDS_HERE = [
    {"grpc_proxy": "", "https_proxy": "URL"},
    {"https_proxy": "URL", "no_proxy": "127.0.0.2", "no_grpc_proxy": ""},
    {"https_proxy": "URL", "no_proxy": "127.0.0.2"},
    {"https_proxy": "URL", "no_proxy": "127.0.0.9/8"},
    {"https_proxy": "URL", "no_proxy": "0.0.2"},
    {"https_proxy": "URL", "no_proxy": "7.0.0.2"},
    {"https_proxy": "URL", "no_proxy": "*"},
    {"https_proxy": "URL", "no_proxy": ",,"},
    {"https_proxy": "PLACE"},
    {"https_proxy": "localhost:1"},
    {"http_proxy": "URL", "HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.2"},
]
NAMED = [
    ("localhost", "localhost"),
    ("localhost", "notlocalhost"),
    (" .LOCALHOST , x", "localhost"),
    ("localhost.", "localhost"),
]
WAYS = [
    *((said, "127.0.0.2") for said in ENDS_HERE),
    *(({"https_proxy": "URL", "no_proxy": said}, host) for said, host in NAMED),
]


@pytest.mark.parametrize(("said", "host"), WAYS, ids=str)
def test_we_read_the_variables_of_proxies_as_grpc_does(said, host, world, monkeypatch):
    made = world.proxy()
    for name in made.environment:
        monkeypatch.delenv(name)
    for name, value in said.items():
        place = made.url.removeprefix("http://")
        monkeypatch.setenv(name, value.replace("URL", made.url).replace("PLACE", place))
    own = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(f"{host}:{free_port()}", own)
    with channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/models/List")(b"", timeout=100)
    assert (proxy_of_environment(host) is not None) == bool(made.asked)


def test_a_proxy_without_a_port_is_on_the_one_that_grpc_takes(world, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.3")
    found = proxy_of_environment("models.example.org")
    channel = grpc.insecure_channel("models.example.org:8765")
    with channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/models/List")(b"", timeout=100)
    assert f"127.0.0.3:{found.port}:" in refused.value.details()


def test_a_hub_elsewhere_is_reached_through_the_proxy_and_one_here_past_it(world):
    there = world.proxy(leads_to=world.hub("models.example.org"))
    assert client.list_models("hub://models.example.org:8765") == []
    assert there.asked[0].startswith(b"CONNECT models.example.org:8765 ")
    there.asked.clear()
    for url in (
        f"hub+insecure://localhost:{world.hub()}",
        f"hub://127.0.0.1:{world.hub('127.0.0.1')}",
    ):
        assert client.list_models(url) == []
    with pytest.raises(HubUnreachable):
        client.list_models(nobody(world))
    assert there.asked == []


def test_what_grpc_alone_refuses_is_not_waited_for(world, monkeypatch):
    monkeypatch.setattr("facemorph_core.hub.channel.obstacle", lambda asked: None)
    monkeypatch.setattr("facemorph_core.hub.channel.AWAY_SECONDS", 0.0)
    for cause in (another_host, expired, another_authority):
        with pytest.raises(HubUnusable, match="cannot be spoken to over TLS"):
            client.list_models(cause(world))


class Failed(grpc.RpcError):
    """As gRPC tells it."""

    def __init__(self, details: str) -> None:
        self.details = lambda: details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("name", ["TSI_DATA_CORRUPTED", "TSI_PROTOCOL_FAILURE"])
def test_whatever_failed_about_tls_is_not_waited_for(name, monkeypatch):
    monkeypatch.setattr("facemorph_core.hub.channel.obstacle", lambda asked: None)
    asked = probe.Asked(HubAddress("models.example.org"), False, None, None)
    with pytest.raises(HubUnusable, match="over TLS"), our_errors(asked):
        raise Failed(f"Unwrap failed ({name})")


def test_nothing_is_probed_where_a_hub_answers(world, monkeypatch):
    monkeypatch.setattr("facemorph_core.hub.channel.obstacle", lambda asked: pytest.fail("probed"))
    assert client.list_models(f"hub://127.0.0.1:{world.hub('127.0.0.1')}") == []


def test_a_file_that_holds_no_certificates_is_named(world, tmp_path):
    wrong = tmp_path / "token"
    wrong.write_text("not a certificate")
    with pytest.raises(HubError, match="holds no certificates") as caught:
        client.list_models(nobody(world), ca=wrong)
    assert "--ca" in caught.value.hint
