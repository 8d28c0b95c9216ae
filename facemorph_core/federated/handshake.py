"""Do both ends run the same thing? Compared before a site touches a photo.

This finds honest mistakes: a stale checkout, a patched library, another config. It is no proof
against a liar: whoever means harm sends the digests that fit.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import facemorph_core
from facemorph_core.config import RunConfig, digest
from facemorph_core.federated.refusal import Refusal, Refused


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
    """SHA-256 of the client code that is running, so that a stale checkout is noticed."""

    @classmethod
    def here(cls, config: RunConfig, client_code: Path) -> Handshake:
        """What this process runs; ``client_code`` is the folder of the ClientApp's sources."""
        return cls(
            facemorph_core.__version__,
            installed_core(),
            digest(config),
            code_digest(client_code),
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


@cache
def installed_core() -> str:
    """`package_digest` of the facemorph_core that this process imported; read once."""
    return package_digest(Path(facemorph_core.__file__).parent)


def package_digest(folder: Path) -> str:
    """SHA-256 of all files of a package; an installed wheel and the checkout it is of have one.

    Bytecode is left out, and what is hidden: editors and file managers leave such files behind.
    """
    files = [file for file in folder.rglob("*") if _counts(file.relative_to(folder).parts)]
    return _digest(folder, [file for file in files if file.is_file()])


def code_digest(folder: Path) -> str:
    """SHA-256 of the Python files directly in ``folder``: what travels in the app's bundle."""
    return _digest(folder, list(folder.glob("*.py")))


def _counts(parts: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and "__pycache__" not in parts and not parts[-1].endswith(".pyc")


def _digest(folder: Path, files: list[Path]) -> str:
    """Over names, as seen from ``folder``, and bytes."""
    hasher = hashlib.sha256()
    for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in files):
        content = file.read_bytes()
        hasher.update(f"{name} {len(content)}\n".encode() + content)
    return hasher.hexdigest()
