"""The authority of a federation as it lies on the disk, if it can be used.

A new one in its place would be trusted by no site, so nothing here is made anew in silence.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from facemorph_core.errors import FederationError

__all__ = ["Authority", "both_or_none", "known_authority", "require_validity"]

BEGIN_ANEW = "to begin anew, move ca.crt and ca.key away: every site then needs the new ca.crt"


class Authority(NamedTuple):
    """A certificate authority with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def both_or_none(one: Path, other: Path, *, hint: str) -> bool:
    """Whether both files are there; FederationError where one is without the other."""
    if one.exists() == other.exists():
        return one.exists()
    there, absent = (one, other) if one.exists() else (other, one)
    raise FederationError(f"{there} is there without {absent.name}", hint=hint)


def known_authority(cert: Path, key: Path) -> Authority | None:
    """The authority in these two files, or None if there is none yet.

    Raises:
        FederationError: one file is missing or damaged, or they do not belong together.
    """
    if not both_or_none(cert, key, hint=f"bring the other one back, or {BEGIN_ANEW}"):
        return None
    found = Authority(_certificate(cert), _key(key))
    if found.certificate.public_key() != found.key.public_key():
        raise FederationError(
            f"{key} is not the key of {cert.name}",
            hint=f"bring the one back that belongs to it, or {BEGIN_ANEW}",
        )
    return found


def require_validity(authority: Authority, *, now: datetime, until: datetime, days: int) -> None:
    """Refuse a certificate of ``days`` days that would outlive ``authority``.

    Raises:
        FederationError: with the day on which the authority ends.
    """
    end = authority.certificate.not_valid_after_utc
    if end <= now:
        raise FederationError(f"the authority ca.crt ended on {end:%Y-%m-%d}", hint=BEGIN_ANEW)
    if end < until:
        left = (end - now).days
        shorter = f"--days {left} fits; " if left else ""
        raise FederationError(
            f"the authority ca.crt ends on {end:%Y-%m-%d}, before a certificate of {days} days",
            hint=f"{shorter}{BEGIN_ANEW}",
        )


def _certificate(path: Path) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        limits = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        limits = None
    if limits is None or not limits.ca:
        raise FederationError(
            f"{path} is not the certificate of an authority",
            hint=f"bring the right one back, or {BEGIN_ANEW}",
        )
    return found


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise FederationError(
            f"{path} is not a private key of an elliptic curve without a password",
            hint=f"bring the right one back, or {BEGIN_ANEW}",
        )
    return found
