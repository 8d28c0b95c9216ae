"""Do both ends run the same thing? Compared before a site touches a photo."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from facemorph_core import __version__
from facemorph_core.config import RunConfig, digest
from facemorph_core.federated.refusal import Refusal, Refused


@dataclass(frozen=True, slots=True)
class Handshake:
    """Three things that must be equal at the server and at a site."""

    core_version: str
    """Version of the installed facemorph_core."""
    config_digest: str
    """SHA-256 of the resolved config."""
    code_digest: str
    """SHA-256 of the client code that is running, so that a stale checkout is noticed."""

    @classmethod
    def here(cls, config: RunConfig, client_code: Path) -> Handshake:
        """What this process runs; ``client_code`` is the folder of the ClientApp's sources."""
        return cls(__version__, digest(config), code_digest(client_code))

    def as_strings(self) -> dict[str, str]:
        """The form in which it travels."""
        return asdict(self)

    def require(self, sent: dict[str, object]) -> None:
        """Compare with what the server sent.

        Raises:
            Refused: naming the first of version, code and config that differs.
        """
        for name, refusal in (
            ("core_version", Refusal.VERSION_DIFFERS),
            ("code_digest", Refusal.CODE_DIFFERS),
            ("config_digest", Refusal.CONFIG_DIFFERS),
        ):
            ours, theirs = getattr(self, name), sent.get(name)
            if ours != theirs:
                raise Refused(refusal, f"{refusal.sentence} (here {ours}, server {theirs})")


def code_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the Python files directly in ``folder``."""
    hasher = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        content = file.read_bytes()
        hasher.update(f"{file.name} {len(content)}\n".encode() + content)
    return hasher.hexdigest()
