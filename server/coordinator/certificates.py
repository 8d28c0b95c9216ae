"""Keys of a federation: a certificate authority, the server's certificate, a key pair per site.

    ca.crt, ca.key            the authority; ca.crt goes to every site, ca.key to nobody
    server.pem, server.key    for the SuperLink and the model hub
    sites/NAME, NAME.pub      EC P-384 in OpenSSH form: the site keeps NAME, NAME.pub is registered

Private files are readable by their owner alone. An existing authority is used again, so that a
site can be added without telling the others; it lives ten times as long as the server's
certificate, which never outlives it. Of a pair that is not whole nothing is made anew in silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from facemorph_core.disk.private import opened_privately, private_folder
from facemorph_core.errors import FederationError, OutputError
from server.coordinator.authority import (
    Authority,
    both_or_none,
    known_authority,
    require_validity,
)
from server.coordinator.hosts import as_address, checked_host

_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CLOCK_SKEW = timedelta(minutes=5)
_LIVES = 10
"""Of the server's certificate in one of its authority, which only all sites together replace."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
        """Private key of a site."""
        return self.folder / "sites" / name

    def site_pub(self, name: str) -> Path:
        """Public key of a site."""
        return self.folder / "sites" / f"{name}.pub"


def create(
    folder: Path, *, hosts: Sequence[str], sites: Sequence[str] = (), days: int = 365
) -> Credentials:
    """Make what is missing in ``folder``; the server's certificate is always made anew.

    ``hosts`` are the names and addresses under which sites reach the server. The coordinator's own
    machine may always call it by those of the loopback, which no other machine can stand for.

    Raises:
        FederationError: for a site's name that could be a path, a host that is none, half a pair of
            files, an authority that is damaged or would end first; nothing was made.
        OutputError: if the folder cannot be written.
    """
    if not hosts:
        raise FederationError("a certificate needs a host", hint="--host flower.example.org")
    hosts = list(dict.fromkeys([*map(checked_host, hosts), *LOOPBACK]))
    made, now = Credentials(folder), datetime.now(UTC)
    try:
        new = _new_sites(made, sites)
        authority = known_authority(made.ca, made.ca_key)
        if authority is not None:
            until = now + timedelta(days=days)
            require_validity(authority, now=now, until=until, days=days)
        private_folder(folder / "sites")
        authority = authority or _authority(made, now, days)
        _server(made, authority, hosts, now, days)
        for name in new:
            _site(made.site_key(name))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    return made


def _new_sites(made: Credentials, sites: Sequence[str]) -> list[str]:
    """Those of ``sites`` that have no keys yet."""
    for name in sites:
        if not _SITE_NAME.fullmatch(name):
            raise FederationError(
                f"'{name}' is no name for a site", hint="letters, digits, '.', '_' and '-'"
            )
    return [
        name
        for name in dict.fromkeys(sites)
        if not both_or_none(
            made.site_key(name),
            made.site_pub(name),
            hint=f"if {name} has its key, leave --site {name} out; for a new pair move both away",
        )
    ]


def _authority(made: Credentials, now: datetime, days: int) -> Authority:
    key = ec.generate_private_key(ec.SECP384R1())
    name = _common_name("facemorph federation")
    certificate = (
        _certificate(name, name, key.public_key(), now, days * _LIVES)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    _write_private(made.ca_key, _pem(key))
    made.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(certificate, key)


def _server(
    made: Credentials,
    authority: Authority,
    hosts: Sequence[str],
    now: datetime,
    days: int,
) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _certificate(
            authority.certificate.subject, _common_name(hosts[0]), key.public_key(), now, days
        )
        .add_extension(x509.SubjectAlternativeName([_alternative(h) for h in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority.key, hashes.SHA384())
    )
    pem = serialization.Encoding.PEM
    _write_private(made.server_key, _pem(key))
    chain = certificate.public_bytes(pem) + authority.certificate.public_bytes(pem)
    made.server.write_bytes(chain)


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
    issuer: x509.Name,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
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
    address = as_address(host)
    return x509.DNSName(host) if address is None else x509.IPAddress(address)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_private(path: Path, content: bytes) -> None:
    """Readable by the owner alone from the first moment on."""
    path.unlink(missing_ok=True)
    with opened_privately(path, "xb") as file:
        file.write(content)
