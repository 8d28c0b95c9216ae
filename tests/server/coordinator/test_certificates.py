from __future__ import annotations

import socket
import ssl
import stat
import subprocess
import threading
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from typer.testing import CliRunner

from facemorph_core.errors import FederationError
from server.__main__ import app
from server.coordinator.certificates import create


def handshake(made, *, name: str) -> None:
    """A real TLS handshake on loopback; raises as a site would see it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server, made.server_key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            client = ssl.create_default_context(cafile=made.ca)
            with socket.create_connection(listener.getsockname()) as plain:
                client.wrap_socket(plain, server_hostname=name).close()
        finally:
            thread.join()


def test_a_site_that_knows_the_authority_trusts_the_server_under_its_names_only(tmp_path):
    made = create(tmp_path, hosts=["127.0.0.1", "flower.example.org"])
    handshake(made, name="127.0.0.1")
    handshake(made, name="flower.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made, name="other.example.org")


def test_private_files_are_readable_by_their_owner_alone(tmp_path):
    made = create(tmp_path, hosts=["localhost"], sites=["clinic-a"])
    for path in (made.ca_key, made.server_key, made.site_key("clinic-a")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_site_key_is_p384_in_openssh_form_with_its_public_half(tmp_path):
    path = create(tmp_path, hosts=["localhost"], sites=["clinic-a"]).site_key("clinic-a")
    private = load_ssh_private_key(path.read_bytes(), password=None)
    public = load_ssh_public_key(path.with_name("clinic-a.pub").read_bytes())
    assert private.curve.name == "secp384r1"
    assert private.public_key() == public


def test_adding_a_site_keeps_the_authority_and_the_other_keys(tmp_path):
    made = create(tmp_path, hosts=["localhost"], sites=["a"])
    before = made.ca.read_bytes(), made.site_key("a").read_bytes()
    create(tmp_path, hosts=["localhost"], sites=["a", "b"])
    assert (made.ca.read_bytes(), made.site_key("a").read_bytes()) == before
    assert made.site_key("b").exists()
    handshake(made, name="localhost")


def test_a_name_that_could_be_a_path_is_refused(tmp_path):
    with pytest.raises(FederationError, match="is no name for a site"):
        create(tmp_path, hosts=["localhost"], sites=["../../root"])


def test_openssl_finds_the_chain_in_order(tmp_path):
    made = create(tmp_path, hosts=["localhost"])
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", made.ca, made.server],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


# --- what is refused instead of being made anew -----------------------------------------------


def refused(folder, words: str, *, hint: str = "", **more):
    """`create` refuses in one sentence, and has touched nothing."""
    before = contents(folder)
    with pytest.raises(FederationError, match=words) as caught:
        create(folder, **({"hosts": ["localhost"]} | more))
    assert hint in (caught.value.hint or "")
    assert contents(folder) == before


def contents(folder) -> dict[str, bytes]:
    return {str(f): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("lost", ["ca.key", "ca.crt"])
def test_half_an_authority_is_not_silently_replaced(tmp_path, lost):
    create(tmp_path, hosts=["localhost"])
    (tmp_path / lost).unlink()
    refused(tmp_path, f"without .*{lost}", hint="every site then needs the new ca.crt")


def test_a_site_whose_key_was_handed_over_gets_no_second_one_under_its_name(tmp_path):
    made = create(tmp_path, hosts=["localhost"], sites=["a"])
    made.site_key("a").unlink()
    refused(tmp_path, r"a\.pub .*without", sites=["a"], hint="leave --site a out")
    create(tmp_path, hosts=["localhost"], sites=["b"])


def test_an_authority_and_another_one_s_key_are_refused(tmp_path):
    create(tmp_path / "other", hosts=["localhost"])
    create(tmp_path / "keys", hosts=["localhost"])
    (tmp_path / "keys" / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    refused(tmp_path / "keys", "is not the key of")


@pytest.mark.parametrize("file", ["ca.key", "ca.crt"])
@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100])
def test_a_damaged_authority_is_named(tmp_path, file, content):
    create(tmp_path, hosts=["localhost"])
    (tmp_path / file).write_bytes(content)
    refused(tmp_path, f"{file} is not", hint="ca.crt")


def test_a_key_under_a_password_and_one_of_another_kind_are_refused(tmp_path):
    create(tmp_path, hosts=["localhost"])
    locked = serialization.BestAvailableEncryption(b"secret")
    keys = {
        "password": ec.generate_private_key(ec.SECP384R1()).private_bytes(*PKCS8, locked),
        "RSA": rsa.generate_private_key(65537, 2048).private_bytes(
            *PKCS8, serialization.NoEncryption()
        ),
    }
    for key in keys.values():
        (tmp_path / "ca.key").write_bytes(key)
        refused(tmp_path, r"ca\.key is not")


def test_a_server_s_certificate_is_no_authority(tmp_path):
    made = create(tmp_path, hosts=["localhost"])
    made.ca.write_bytes(made.server.read_bytes())
    made.ca_key.write_bytes(made.server_key.read_bytes())
    refused(tmp_path, "is not the certificate of an authority")


def at(monkeypatch, *, days: int) -> None:
    """The same machine so many days later."""

    class Later(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(days=days)

    monkeypatch.setattr("server.coordinator.certificates.datetime", Later)


def test_an_authority_lives_through_several_certificates_of_the_server(tmp_path, monkeypatch):
    made = create(tmp_path, hosts=["localhost"], days=30)
    before = made.ca.read_bytes()
    for days in (29, 100, 200):
        at(monkeypatch, days=days)
        create(tmp_path, hosts=["localhost"], days=30)
        assert made.ca.read_bytes() == before
        server = x509.load_pem_x509_certificate(made.server.read_bytes())
        authority = x509.load_pem_x509_certificate(made.ca.read_bytes())
        assert server.not_valid_after_utc <= authority.not_valid_after_utc


def test_no_certificate_outlives_its_authority(tmp_path, monkeypatch):
    create(tmp_path, hosts=["localhost"], days=30)
    at(monkeypatch, days=290)
    refused(tmp_path, r"ends on .*, before a certificate of 30 days", days=30, hint="--days 9")
    at(monkeypatch, days=301)
    refused(tmp_path, "ended on", days=1, hint="every site then needs the new ca.crt")


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "https://flower.example.org", "flower.example.org:8000", "127.0.0.1:8000"),
        *("flower.example.org/", "[::1]", "a b", "user@host", "-a.example.org", "a..b", "a."),
        *("256.1.1.1", "1.2.3", "fe80::1%eth0", "x" * 64, "a." * 127 + "aa", "flö wer.example.org"),
        *("https://flöwer.example.org", "ö" * 64, "\u200d.example.org", "a.ö..org"),
        *("two\nlines", "\x1b[2J", "*", "a.*.org"),
    ],
)
def test_what_is_no_host_is_refused_before_anything_is_made(tmp_path, host):
    refused(tmp_path, "is no name or address of a host", hosts=["localhost", host])
    assert not contents(tmp_path)


def test_no_host_at_all_is_refused(tmp_path):
    refused(tmp_path, "a certificate needs a host", hosts=[])


@pytest.mark.parametrize(
    "host", ["localhost", "superlink_1", "::1", "10.0.0.7", "*.example.org", "xn--flwer-jua.org"]
)
def test_hosts_as_they_are_really_called_are_taken(tmp_path, host):
    made = create(tmp_path, hosts=[host])
    assert names_of(made)[0] == host


def test_a_name_in_other_letters_stands_in_the_certificate_as_its_a_label(tmp_path):
    made = create(tmp_path, hosts=["Flöwer.example.org", "例え.テスト"])
    assert names_of(made)[:2] == ["xn--flwer-kua.example.org", "xn--r8jz45g.xn--zckzah"]
    handshake(made, name="flöwer.example.org")


def test_what_runs_beside_the_server_reaches_it_on_the_loopback(tmp_path):
    made = create(tmp_path, hosts=["flower.example.org"])
    for name in ("flower.example.org", "localhost", "127.0.0.1", "::1"):
        handshake(made, name=name)


def test_each_name_stands_there_once(tmp_path):
    made = create(tmp_path, hosts=["127.0.0.1", "a.org", "a.org", "localhost"])
    assert names_of(made) == ["127.0.0.1", "a.org", "localhost", "::1"]


def names_of(made) -> list[str]:
    """What the server's certificate is for, in its order."""
    found = x509.load_pem_x509_certificate(made.server.read_bytes()).extensions
    return [
        str(name.value) for name in found.get_extension_for_class(x509.SubjectAlternativeName).value
    ]


def test_the_command_says_it_in_a_sentence(tmp_path):
    arguments = ["certificates", str(tmp_path), "--host", "https://flower.example.org:8000"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, FederationError)
    assert "'https://flower.example.org:8000' is no name" in str(result.exception)
    assert "--host flower.example.org" in result.exception.hint
