"""Keys of a federation: a certificate authority, the server's certificate, a key pair per site.

    ca.crt, ca.key            the authority; ca.crt goes to every site, ca.key to nobody
    server.pem, server.key    for the SuperLink and the model hub
    sites/NAME, NAME.pub      EC P-384 in OpenSSH form: the site keeps NAME, NAME.pub is registered

Private files are readable by their owner alone. An existing authority is used again, so that a
site can be added without telling the others.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from facemorph_core.errors import FederationError, OutputError

_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the files of a federation lie."""

    folder: Path

    @property
    def ca(self) -> Path:
        """Certificate of the authority."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """Private key of the authority."""
        return self.folder / "ca.key"

    @property
    def server(self) -> Path:
        """Certificate of the server with that of the authority."""
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        """Private key of the server."""
        return self.folder / "server.key"

    def site_key(self, name: str) -> Path:
        """Private key of a site; the public one ends in ``.pub``."""
        return self.folder / "sites" / name


def create(
    folder: Path, *, hosts: Sequence[str], sites: Sequence[str] = (), days: int = 365
) -> Credentials:
    """Make what is missing in ``folder``; the server's certificate is always made anew.

    ``hosts`` are the names and addresses under which sites reach the server.

    Raises:
        FederationError: for a site's name that could be a path.
        OutputError: if the folder cannot be written.
    """
    for name in sites:
        if not _SITE_NAME.fullmatch(name):
            raise FederationError(
                f"'{name}' is no name for a site", hint="letters, digits, '.', '_' and '-'"
            )
    made = Credentials(folder)
    try:
        (folder / "sites").mkdir(parents=True, exist_ok=True)
        authority, key = _authority(made, days)
        _server(made, authority, key, hosts, days)
        for name in sites:
            if not made.site_key(name).exists():
                _site(made.site_key(name))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    return made


def _authority(made: Credentials, days: int) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if made.ca.exists() and made.ca_key.exists():
        key = serialization.load_pem_private_key(made.ca_key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(made.ca.read_bytes()), key
    key = ec.generate_private_key(ec.SECP384R1())
    name = _common_name("facemorph federation")
    certificate = (
        _certificate(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    _write_private(made.ca_key, _pem(key))
    made.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _server(
    made: Credentials,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    days: int,
) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _certificate(authority.subject, _common_name(hosts[0]), key.public_key(), days)
        .add_extension(x509.SubjectAlternativeName([_alternative(h) for h in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    pem = serialization.Encoding.PEM
    _write_private(made.server_key, _pem(key))
    made.server.write_bytes(certificate.public_bytes(pem) + authority.public_bytes(pem))


def _site(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    _write_private(path, private)
    path.with_name(f"{path.name}.pub").write_bytes(public + b"\n")


def _certificate(
    issuer: x509.Name, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_private(path: Path, content: bytes) -> None:
    """Readable by the owner alone from the first moment on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
