"""A site's ledger on disk: the gate before every release.

Whatever is computed from the photos and leaves has its line here first, synced to the disk. A
release is charged before it is computed, and stays charged if it then fails: whether it fails may
depend on the photos. The ledger belongs to the photos, not to a run or a folder: what counts for
a photo are all releases from sets of photos that it was in.

    | privacy.jsonl   see `facemorph_core.learning.privacy.ledger`
    | photos/         the sets of photos that its lines name
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from facemorph_core.disk.output import locked, sync_folder
from facemorph_core.disk.private import PRIVATE_FILE, opened_privately, private_folder
from facemorph_core.errors import LedgerError, OutputError
from facemorph_core.learning.privacy.events import Event, GaussianSteps, PlainRelease
from facemorph_core.learning.privacy.heads import Heads
from facemorph_core.learning.privacy.ledger import Ledger, charge, first_line, next_line, parse
from facemorph_core.learning.privacy.photos import PhotoSet, keep_set, kept_set
from facemorph_core.learning.privacy.spent import Spent


@dataclass(frozen=True, slots=True)
class SiteLedger:
    """The ledger in ``path`` whose head is kept in ``heads``."""

    path: Path
    heads: Heads

    def read(self) -> Ledger:
        """Everything that was released; a file that does not exist means nothing.

        Raises:
            LedgerError: the file cannot be read or is damaged.
        """
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise LedgerError(f"the ledger {self.path} cannot be read: {error.strerror}") from error
        return parse(str(self.path), content)

    def charge(
        self, photos: PhotoSet, event: GaussianSteps, *, delta: float, limit: float
    ) -> Spent:
        """Write ``event`` down and return what ``photos`` have spent with it.

        It is judged at ``delta``, or at the smallest delta that any of the photos was ever
        released at: at a larger one epsilon is smaller, and a spent budget would open again.
        Two processes of one site cannot both spend the rest: the check and the write are one.

        Raises:
            BudgetExhausted: nothing was written.
            LedgerError: the file is damaged, cut off or cannot be written.
        """
        with self._held():
            ledger = self._checked(photos)
            concerns = self._concerns(photos)
            delta = ledger.delta_of(concerns, asked=delta)
            after = charge(ledger.about(concerns), event, delta=delta, limit=limit)
            self._append(ledger, event, photos, delta=delta)
        return Spent(after, delta, event.unit)

    def note(self, photos: PhotoSet, event: PlainRelease) -> None:
        """Write down that something without noise leaves: no epsilon holds for it any more.

        Raises:
            LedgerError: the file is damaged, cut off or cannot be written.
        """
        with self._held():
            self._append(self._checked(photos), event, photos)

    def releases_within(self, time: timedelta) -> int:
        """How many releases were written down in this time before now.

        Or in as long after it, as a clock that was ahead and was put right leaves them.
        """
        now = datetime.now(UTC)
        return sum(abs(now - entry.at) <= time for entry in self.read().entries)

    # --- parts -------------------------------------------------------------------------------

    @contextmanager
    def _held(self) -> Iterator[None]:
        try:
            private_folder(self.path.parent)
            lock = self.path.with_name(self.path.name + ".lock")
            with locked(lock, mode=PRIVATE_FILE), self.heads.held():
                yield
        except (OSError, OutputError) as error:
            reason = getattr(error, "strerror", None) or error
            raise LedgerError(
                f"the ledger {self.path} cannot be written ({reason}); nothing is released",
                hint="free some space or repair the folder's permissions, then train again",
            ) from error

    def _checked(self, photos: PhotoSet) -> Ledger:
        ledger = self.read()
        self.heads.check(self.path, ledger, photos)
        return ledger

    def _concerns(self, photos: PhotoSet) -> Callable[[str | None], bool]:
        """Whether a set of photos, by its fingerprint, shares one with ``photos``."""

        @cache
        def concerns(name: str | None) -> bool:
            kept = None if name is None else kept_set(self.path.parent / "photos", name)
            return kept is None or not kept.isdisjoint(photos)  # what is not known counts

        return concerns

    def _append(
        self, ledger: Ledger, event: Event, photos: PhotoSet, *, delta: float | None = None
    ) -> None:
        """The head as it was, the set of photos, the line, the head: each synced before the next.

        From the first of these on a missing file is noticed, and which photos were in it is known.
        """
        now = datetime.now(UTC)
        if not ledger.id:
            ledger = replace(ledger, id=secrets.token_hex(16))
        self.heads.keep(self.path, ledger, photos)
        name = keep_set(self.path.parent / "photos", photos)
        longer = ledger if ledger.chains else ledger.with_line(*first_line(ledger, now))
        longer = longer.with_line(*next_line(longer, event, name, now, delta=delta))
        _write_behind(self.path, len(ledger.text), longer.text[len(ledger.text) :])
        self.heads.keep(self.path, longer, photos)


def _write_behind(path: Path, complete: int, lines: bytes) -> None:
    """Put ``lines`` behind the ``complete`` bytes, in place of half a line, and sync."""
    is_new = not path.exists()
    with opened_privately(path, "ab") as file:
        file.truncate(complete)
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)
