"""How far each ledger of this user had got, kept at another place than the ledgers.

A chain tells when a line was changed, not when the last ones or the whole file are gone. So the
end of each chain, and which photos it is about, are kept in a folder of their own, best on
another disk or beside the node's key. Whoever can write both places can still forget what was
released: this guards against accidents, restored backups and whoever can write only one of them.

    | ID.json     {"format": 1, "ledger": path, "lines": ..., "chain": ...}
    | ID.photos   digests of all photos that the ledger was ever asked about, one a line
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from facemorph_core.errors import LedgerError
from facemorph_core.privacy.ledger import Ledger
from facemorph_core.privacy.photos import PhotoSet
from facemorph_core.rundir import write_atomic

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain when it was last looked at."""

    ledger: str
    """Where the file lay."""
    lines: int
    """Chained lines; 0 before the first release."""
    chain: str
    format: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads in one folder."""

    folder: Path

    def check(self, path: Path, ledger: Ledger, photos: PhotoSet) -> None:
        """Is ``ledger``, read from ``path``, all that was released about ``photos``?

        Raises:
            LedgerError: it ends before its head, or the photos belong to another ledger.
        """
        for identity in self._known():
            if identity != ledger.id and self._photos(identity) & photos:
                head = self._head(identity)
                if head.lines:
                    raise _missing(path, head, self.folder / f"{identity}.json")
        if not ledger.id:
            return
        if ledger.id not in self._known():
            raise LedgerError(
                f"the head of {path} is not in {self.folder}",
                hint=f"if the site moved here, bring {ledger.id}.json and {ledger.id}.photos too",
            )
        head = self._head(ledger.id)
        if head.lines and ledger.chains[head.lines - 1 : head.lines] != (head.chain,):
            raise LedgerError(
                f"{path} lacks releases that were in it: it had {head.lines} lines or more and has "
                f"{len(ledger.chains)}, or others",
                hint="restore the file from the newest backup; without it, treat the budget as "
                "spent",
            )

    def covers(self, identity: str, photos: PhotoSet) -> bool:
        """Whether it is known that ``photos`` belong to this ledger."""
        return photos <= self._photos(identity)

    def keep(self, path: Path, ledger: Ledger, photos: PhotoSet) -> None:
        """Remember that the chain of ``ledger`` got this far, and was asked about ``photos``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self._photos(ledger.id)
        if not photos <= known:
            text = "\n".join(sorted(known | photos))
            write_atomic(self.folder / f"{ledger.id}.photos", text.encode())
        chains = ledger.chains
        head = Head(str(path), len(chains), chains[-1] if chains else "")
        write_atomic(self.folder / f"{ledger.id}.json", json.dumps(asdict(head)).encode())

    def _known(self) -> list[str]:
        return sorted(file.stem for file in self.folder.glob("*.json"))

    def _photos(self, identity: str) -> PhotoSet:
        file = self.folder / f"{identity}.photos"
        if not file.exists():
            return frozenset()
        return frozenset(file.read_text(encoding="utf-8").split("\n"))

    def _head(self, identity: str) -> Head:
        file = self.folder / f"{identity}.json"
        try:
            head = Head(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise LedgerError(f"{file} is damaged", hint="restore it from a backup") from None
        if head.format != FORMAT_VERSION:
            raise LedgerError(
                f"{file} has format {head.format}, this version reads {FORMAT_VERSION}"
            )
        return head


def _missing(path: Path, head: Head, file: Path) -> LedgerError:
    return LedgerError(
        f"photos of this shard have a ledger already, {head.ledger}, and {path} is not it",
        hint="give the node the state-dir of that ledger, or restore it from a backup; if it is "
        f"lost, these photos' budget is spent. Only whoever removes {file} begins anew",
    )
