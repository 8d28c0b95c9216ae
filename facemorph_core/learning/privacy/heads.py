"""How far each ledger of this user had got, kept at another place than the ledgers.

A chain tells when a line was changed, not when the last ones or the whole file are gone. So the
end of each chain, and which photos it is about, are kept in a folder of their own, best on
another disk or beside the node's key. Whoever can write both places can still forget what was
released: this guards against accidents, restored backups and whoever can write only one of them.

    | ID.json   {"format": 1, "ledger": path, "lines": ..., "chain": ..., "photos": FINGERPRINT}
    | photos/   the sets of all photos that each ledger was ever asked about, by fingerprint
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from facemorph_core.disk.output import locked
from facemorph_core.disk.private import PRIVATE_FILE, private_folder
from facemorph_core.disk.records import write_atomic
from facemorph_core.errors import LedgerError
from facemorph_core.learning.privacy.ledger import Ledger
from facemorph_core.learning.privacy.photos import PhotoSet, keep_set, kept_set

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain when it was last looked at."""

    ledger: str
    """Where the file lay."""
    lines: int
    """Chained lines; 0 before the first release."""
    chain: str
    photos: str
    """Fingerprint of the set of all photos that it was asked about."""
    format: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads in one folder."""

    folder: Path

    def check(self, path: Path, ledger: Ledger, photos: PhotoSet) -> None:
        """Is ``ledger``, read from ``path``, all that was released about ``photos``?

        Raises:
            LedgerError: it ends before its head or long after it, or the photos belong to another
                ledger.
        """
        heads = {identity: self._head(identity) for identity in self._known()}
        own = heads.pop(ledger.id, None)
        for identity, head in heads.items():
            if head.lines and not self._photos(head).isdisjoint(photos):
                raise _missing(path, head, self._file(identity))
        if not ledger.id:
            return
        if own is None:
            raise LedgerError(
                f"the head of {path} is not in {self.folder}",
                hint=f"if the site moved here, bring {ledger.id}.json and the folder photos too",
            )
        self._check_end(path, ledger, own)

    def keep(self, path: Path, ledger: Ledger, photos: PhotoSet) -> None:
        """Remember that the chain of ``ledger`` got this far, and was asked about ``photos``.

        What is remembered already is not written again.
        """
        file = self._file(ledger.id)
        before = self._head(ledger.id) if file.exists() else None
        known = self._photos(before) if before else frozenset()
        name = keep_set(self.folder / "photos", known | photos)
        chains = ledger.chains
        head = Head(str(path), len(chains), chains[-1] if chains else "", name)
        if head == before:
            return
        write_atomic(file, json.dumps(asdict(head)).encode(), private=True)
        if before and before.photos != name:
            (self.folder / "photos" / before.photos).unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else looks at the heads or changes them: two ledgers may want the same photos.

        Raises:
            OutputError: the folder cannot be locked.
        """
        private_folder(self.folder)
        with locked(self.folder / ".lock", mode=PRIVATE_FILE):
            yield

    def _check_end(self, path: Path, ledger: Ledger, head: Head) -> None:
        """A process that was killed leaves one release behind the head, and not more."""
        ahead = len(ledger.chains) - head.lines
        last = ledger.chains[head.lines - 1 : head.lines]
        if ahead < 0 or (head.lines and last != (head.chain,)):
            raise LedgerError(
                f"{path} lacks releases that were in it: it had {head.lines} lines or more and has "
                f"{len(ledger.chains)}, or others",
                hint="restore the file from the newest backup; without it, treat the budget as "
                "spent",
            )
        if ahead > (1 if head.lines else 2):
            raise LedgerError(
                f"{path} has {ahead} lines behind its head in {self.folder}",
                hint="it was written by something else, or the head is of an older backup: restore "
                "both together",
            )

    def _file(self, identity: str) -> Path:
        return self.folder / f"{identity}.json"

    def _known(self) -> list[str]:
        files = self.folder.glob("*.json")
        return sorted(file.stem for file in files if not file.name.startswith("."))  # half written

    def _photos(self, head: Head) -> PhotoSet:
        photos = kept_set(self.folder / "photos", head.photos)
        if photos is None:
            raise LedgerError(
                f"{self.folder / 'photos' / head.photos} is missing",
                hint="restore it from a backup: it says which photos a ledger is about",
            )
        return photos

    def _head(self, identity: str) -> Head:
        file = self._file(identity)
        try:
            head = Head(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError):
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
