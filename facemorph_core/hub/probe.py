"""Why a hub cannot be reached, as its reader needs to know it.

gRPC has one code for a wrong name, a wrong port, a wrong certificate and a wrong proxy. Where it
failed, and only there, this makes a connection of its own on the same way and looks. It sends no
token.
"""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any, NamedTuple

from facemorph_core.errors import HubUnreachable, HubUnusable
from facemorph_core.hub.outlet import Deadline, connection
from facemorph_core.hub.reference import HubAddress, is_loopback
from facemorph_core.machine.printable import printable

__all__ = ["Asked", "obstacle"]

SECONDS = 5.0
"""For each look."""
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What gRPC says first, too: the preface of HTTP/2 and an empty SETTINGS frame."""
FRAME, SETTINGS = 9, 4
TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
X509_V_FLAG_NO_CHECK_TIME = 0x200000  # of OpenSSL; Python has no name for it
X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH = 62, 64
MOST_NAMES = 4


class Asked(NamedTuple):
    """Which hub was asked, and how."""

    address: HubAddress
    plain_text: bool
    trusted: bytes | None
    """PEM certificates; None where gRPC brings its own."""
    ca: Path | None
    """Where they came from, if somebody named it."""


class Speaks(Enum):
    """What answers to the first words of HTTP/2 in plain text."""

    HTTP2 = auto()
    HTTP1 = auto()
    TLS = auto()
    SOMETHING = auto()
    NOTHING = auto()


def obstacle(asked: Asked) -> HubUnreachable | None:
    """What stands between us and the hub; None if something answers as a hub would."""
    try:
        (_look_in_plain if asked.plain_text else _look_over_tls)(asked)
    except HubUnreachable as found:
        return found
    return None


def _look_in_plain(asked: Asked) -> None:
    speaks, address = _speaks(asked), asked.address
    if speaks is Speaks.HTTP2:
        return
    if speaks is Speaks.TLS or (speaks is not Speaks.HTTP1 and _answers_over_tls(asked)):
        raise HubUnusable(
            f"the hub {address} speaks TLS and was asked in plain text",
            hint=f"write hub://{address}, and do not set FACEMORPH_HUB_INSECURE",
        )
    _say_who_answers(address, speaks)


def _look_over_tls(asked: Asked) -> None:
    address = asked.address
    try:
        shown = _handshake(asked, _context(asked.trusted))
    except ssl.SSLCertVerificationError as error:
        raise _about_certificate(asked, error) from error
    except OSError as error:  # ssl.SSLError too
        if _is_alert(error):
            raise HubUnusable(
                f"the hub {address} refuses the connection over TLS: {_words(error)}",
                hint="ask who runs the hub",
            ) from error
        _say_without_tls(asked)
    else:
        if shown.protocol != "h2":
            _say_who_answers(address, Speaks.HTTP1)
        if shown.ended:
            raise HubUnreachable(
                f"what listens at {address} ends the connection as soon as TLS is agreed on",
                hint="it may want a certificate of its readers: ask who runs the hub",
            )


def _say_without_tls(asked: Asked) -> None:
    speaks, address = _speaks(asked), asked.address
    if speaks is Speaks.HTTP2:
        hint = "who runs it has to start it with --cert and --key"
        if address.is_loopback:
            hint = f"write hub+insecure://{address}, or set FACEMORPH_HUB_INSECURE=1"
        raise HubUnusable(f"the hub {address} speaks plain text and was asked over TLS", hint=hint)
    if speaks in (Speaks.TLS, Speaks.NOTHING):
        raise HubUnreachable(
            f"what listens at {address} does not finish TLS",
            hint="it may have too much to do: try again in a minute, or check the port",
        )
    _say_who_answers(address, speaks)


def _say_who_answers(address: HubAddress, speaks: Speaks) -> None:
    hint = "check the port: a hub's is 8765 unless it was started with another"
    match speaks:
        case Speaks.NOTHING:
            raise HubUnreachable(f"what listens at {address} says nothing", hint=hint)
        case Speaks.HTTP1:
            raise HubUnusable(f"a web server answers at {address}, and no model hub", hint=hint)
        case _:
            raise HubUnusable(f"what answers at {address} is no model hub", hint=hint)


# --- what answers ----------------------------------------------------------------------------


def _speaks(asked: Asked) -> Speaks:
    said, deadline = b"", Deadline(SECONDS)
    with connection(asked.address, deadline) as line, contextlib.suppress(OSError):
        line.sendall(HELLO)
        while len(said) < FRAME and (more := deadline.read(line, 512)):
            said += more
    if len(said) >= FRAME and said[3] == SETTINGS:
        return Speaks.HTTP2
    if said.startswith(b"HTTP/") or b"<html" in said.lower():
        return Speaks.HTTP1
    if said.startswith(TLS_RECORDS):
        return Speaks.TLS
    return Speaks.SOMETHING if said else Speaks.NOTHING


def _answers_over_tls(asked: Asked) -> bool:
    context = _context(None)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _handshake(asked, context)
    except OSError:
        return False
    return True


class Shown(NamedTuple):
    """What came of a handshake."""

    certificate: dict[str, Any]
    """Empty if nobody looked at it."""
    protocol: str | None
    ended: bool
    """Whether the connection was closed then, without a word."""


def _handshake(asked: Asked, context: ssl.SSLContext) -> Shown:
    """What is shown to us, once both sides have had their say.

    In TLS 1.3 the other side looks at our certificate after its own part, so that what it refuses
    is heard in what it says first.
    """
    deadline = Deadline(SECONDS)
    line = connection(asked.address, deadline)
    line.settimeout(deadline.left())
    with line, context.wrap_socket(line, server_hostname=asked.address.host) as secured:
        certificate, protocol = secured.getpeercert() or {}, secured.selected_alpn_protocol()
        return Shown(certificate, protocol, ended=not _says_something(secured, deadline))


def _says_something(secured: ssl.SSLSocket, deadline: Deadline) -> bool:
    """Whether it does, or takes its time; an alert is an SSLError."""
    try:
        secured.sendall(HELLO)
        return deadline.read(secured, FRAME) != b""
    except TimeoutError:
        return True
    except OSError as error:
        if _is_alert(error):
            raise
        return False


def _context(trusted: bytes | None) -> ssl.SSLContext:
    """As strict as gRPC, which takes any certificate that it was given for an authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    if trusted is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=trusted.decode("ascii", "ignore"))
    return context


# --- certificates ----------------------------------------------------------------------------


def _about_certificate(asked: Asked, error: ssl.SSLCertVerificationError) -> HubUnreachable:
    """What is wrong with it; its dates and names are read once somebody we trust has signed it."""
    address, now = asked.address, datetime.now(UTC)
    context = _context(asked.trusted)
    context.check_hostname = False
    context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
    try:
        shown = _handshake(asked, context).certificate
    except OSError:
        return _of_a_stranger(asked)
    begins, ends = _moment(shown["notBefore"]), _moment(shown["notAfter"])
    whose = f"the certificate of the hub {address}"
    if error.verify_code in (X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH):
        return _of_another_host(address, _names(shown))
    if ends < now:
        return HubUnusable(
            f"{whose} expired on {ends:%Y-%m-%d %H:%M} UTC",
            hint="ask who runs the hub to renew it; the clock of this machine says "
            f"{now:%Y-%m-%d %H:%M} UTC",
        )
    if begins > now:
        return HubUnusable(
            f"{whose} is not valid before {begins:%Y-%m-%d %H:%M} UTC",
            hint=f"the clock of this machine says {now:%Y-%m-%d %H:%M} UTC: is it right?",
        )
    return HubUnusable(f"{whose} is not accepted: {_words(error)}", hint="ask who runs the hub")


def _of_a_stranger(asked: Asked) -> HubUnusable:
    if asked.ca is not None:
        return HubUnusable(
            f"the certificate of the hub {asked.address} is signed by none of those in {asked.ca}",
            hint="ask who runs the hub for its ca.crt, and name it with --ca or $FACEMORPH_HUB_CA",
        )
    return HubUnusable(
        f"nobody whom this machine trusts has signed the certificate of the hub {asked.address}",
        hint="if the certificate is the hub's own, name its CA with --ca or $FACEMORPH_HUB_CA",
    )


def _of_another_host(address: HubAddress, names: list[str]) -> HubUnusable:
    more = len(names) - MOST_NAMES
    listed = ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    hint = f"ask who runs the hub for a certificate for {address.host}"
    usable = [name for name in names if "*" not in name]
    usable = [name for name in usable if address.is_loopback or not is_loopback(name)]
    if usable:
        hint = f"name the hub as its certificate does ({usable[0]}:{address.port}), or {hint}"
    return HubUnusable(
        f"the certificate of the hub {address} is for {listed or 'no host'}, not {address.host}",
        hint=hint,
    )


def _names(shown: dict[str, Any]) -> list[str]:
    """Whom a certificate is for."""
    found = [printable(value, longest=80) for _, value in shown.get("subjectAltName", ())]
    return [_as_written(name) for name in found]


def _as_written(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)


def _is_alert(error: OSError) -> bool:
    return "ALERT" in (getattr(error, "reason", None) or "")


def _words(error: OSError) -> str:
    """OpenSSL's own, without its file and line."""
    said = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
    return printable(str(said).replace("_", " ").lower(), longest=120)
