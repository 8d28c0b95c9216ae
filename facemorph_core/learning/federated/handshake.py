"""Do both ends run the same thing? Compared before a site touches a photo.

This finds honest mistakes: a stale checkout, a patched library, another config. It is no proof
against a liar: whoever means harm sends the digests that fit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import facemorph_core
from facemorph_core.config import RunConfig, digest
from facemorph_core.disk.hashing import core_sha256, files_sha256
from facemorph_core.learning.federated.refusal import Refusal, Refused


@dataclass(frozen=True, slots=True)
class Handshake:
    """Four things that must be equal at the server and at a site."""

    core_version: str
    """Version of the installed facemorph_core."""
    core_digest: str
    """SHA-256 of facemorph_core as it is installed: where losses, noise and limits are computed."""
    config_digest: str
    """SHA-256 of the resolved config."""
    code_digest: str
    """SHA-256 of the app's code and configs, so that a stale checkout is noticed."""

    @classmethod
    def here(cls, config: RunConfig, app: Path) -> Handshake:
        """What this process runs; ``app`` is the folder that holds ``client/`` and ``server/``."""
        return cls(
            facemorph_core.__version__,
            core_sha256(),
            digest(config),
            code_digest(app),
        )

    def as_strings(self) -> dict[str, str]:
        """The form in which it travels."""
        return asdict(self)

    def require(self, sent: dict[str, object]) -> None:
        """Compare with what the server sent.

        Raises:
            Refused: naming the first of version, library, client code and config that differs.
        """
        for name, refusal in (
            ("core_version", Refusal.VERSION_DIFFERS),
            ("core_digest", Refusal.CODE_DIFFERS),
            ("code_digest", Refusal.CODE_DIFFERS),
            ("config_digest", Refusal.CONFIG_DIFFERS),
        ):
            ours, theirs = getattr(self, name), sent.get(name)
            if ours != theirs:
                told = f"{name}: here {ours}, at the server {theirs}"
                raise Refused(refusal, f"{refusal.sentence} ({told})")


def code_digest(app: Path) -> str:
    """SHA-256 of what travels in the app's bundle: files directly in its two halves, and configs.

    ``__main__.py``, an operator's own command where there is one, does not travel.
    ``pyproject.toml`` does, and is left out: Flower writes it anew.
    """
    halves = (file for half in ("client", "server") for file in (app / half).glob("*.py"))
    configs = (file for file in (app / "configs").rglob("[!.]*") if file.is_file())
    return files_sha256(app, [*(f for f in halves if f.name != "__main__.py"), *configs])
