from __future__ import annotations

import socket
import ssl
import stat
import subprocess
import threading

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from facemorph_core.errors import FederationError
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
