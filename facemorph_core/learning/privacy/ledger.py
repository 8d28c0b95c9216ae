"""What a site has released, as lines of text that hang together. No files here.

Format 2, one JSON object a line, oldest first:

    | {"kind": "ledger", "format": 2, "ledger": ID, "before": HASH, "at": TIME, "chain": HASH}
    | {"kind": "gaussian_steps", "noise_multiplier": ..., "sample_rate": ..., "steps": ...,
    |  "delta": ..., "photos": FINGERPRINT, "at": TIME, "chain": HASH}
    | {"kind": "plain_release", "what": "weights" or "scores",
    |  "photos": FINGERPRINT, "at": TIME, "chain": HASH}

``chain`` is the SHA-256 of the chain of the line before and of the line's own facts, so that no
line but the last ones can be changed, moved or taken out unnoticed. ``before`` is the SHA-256 of
what stood in the file before it was chained: of nothing, or of lines of format 1, which name no
photos and therefore count for all. ``delta`` is the one that the release was promised at; lines
of earlier versions lack it. ``unit`` names what is protected where that is not a photo.

A line cut short at the very end (no newline) was never followed by a release: it does not count
and the next one replaces it. Any other damage is an error, because what is left to spend is then
not known.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from facemorph_core.errors import BudgetExhausted, LedgerError
from facemorph_core.learning.privacy.accountant import epsilon
from facemorph_core.learning.privacy.events import Event, GaussianSteps, PlainRelease
from facemorph_core.learning.privacy.unit import Unit, recorded, unit_of, words_for

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
BEGINNING = "ledger"
_KINDS: dict[str, type[GaussianSteps] | type[PlainRelease]] = {
    "gaussian_steps": GaussianSteps,
    "plain_release": PlainRelease,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One release."""

    event: Event
    photos: str | None
    """Fingerprint of the photos it was computed from; None is all, before format 2."""
    at: datetime
    delta: float | None = None
    """At which it was promised, as far as it is known."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything that was released, in order."""

    entries: tuple[Entry, ...] = ()
    id: str = ""
    """Random; empty before the file is chained."""
    chains: tuple[str, ...] = ()
    """The chain at each line since the file is chained."""
    text: bytes = b""
    """The complete lines."""

    def with_line(self, line: bytes, chain: str) -> Ledger:
        """The same with one more line of text; its entry is not parsed."""
        return replace(self, chains=(*self.chains, chain), text=self.text + line)

    def about(self, is_concerned: Callable[[str | None], bool]) -> tuple[Event, ...]:
        """The releases from sets of photos that ``is_concerned`` picks by fingerprint."""
        return tuple(entry.event for entry in self.entries if is_concerned(entry.photos))

    def delta_of(self, is_concerned: Callable[[str | None], bool], *, asked: float) -> float:
        """``asked``, or the smallest delta that any of these releases was promised at."""
        promised = (entry.delta for entry in self.entries if is_concerned(entry.photos))
        return min([asked, *(delta for delta in promised if delta is not None)])


def parse(name: str, content: bytes) -> Ledger:
    """The ledger that ``content`` holds; ``name`` is that of the file, for messages.

    Raises:
        LedgerError: a line that is not the last one cut short cannot be understood, or does not
            follow from the one before.
    """
    text, newline, rest = content.rpartition(b"\n")
    if rest:
        log.warning("%s ends in half a line, written by a process that died; not counted", name)
    entries: list[Entry] = []
    chains: list[str] = []
    identity, unchained = "", hashlib.sha256()
    for number, line in enumerate(text.split(b"\n") if newline else [], 1):
        facts = _facts(name, number, line)
        if chains or facts.get("kind") == BEGINNING:
            _check_chain(name, number, facts, chains, unchained.hexdigest())
            chains.append(str(facts["chain"]))
        if facts.get("kind") == BEGINNING and not identity:
            identity = str(facts["ledger"])
        else:
            entries.append(_entry(name, number, facts, chained=bool(chains)))
        if not chains:
            unchained.update(line + b"\n")
    return Ledger(tuple(entries), identity, tuple(chains), text + newline)


def first_line(ledger: Ledger, at: datetime) -> tuple[bytes, str]:
    """The line that begins the chain of a ledger that has an id, and its chain."""
    facts = {
        "kind": BEGINNING,
        "format": FORMAT_VERSION,
        "ledger": ledger.id,
        "before": hashlib.sha256(ledger.text).hexdigest(),
        "at": at.isoformat(timespec="seconds"),
    }
    return _chained(facts, "")


def next_line(
    ledger: Ledger, event: Event, photos: str, at: datetime, *, delta: float | None = None
) -> tuple[bytes, str]:
    """The line of a release from the set ``photos`` at the end of a chain, and its chain."""
    kind = next(name for name, of in _KINDS.items() if isinstance(event, of))
    promised = {} if delta is None else {"delta": delta}
    facts = {"kind": kind, **recorded(asdict(event)), **promised, "photos": photos}
    return _chained(facts | {"at": at.isoformat(timespec="seconds")}, ledger.chains[-1])


def charge(spent: tuple[Event, ...], event: GaussianSteps, *, delta: float, limit: float) -> float:
    """Epsilon of ``spent`` and ``event`` together.

    Raises:
        BudgetExhausted: it passes ``limit``; *before* anything is released.
    """
    after = epsilon([*spent, event], delta)
    if not after <= limit:
        raise BudgetExhausted(
            spent=epsilon(spent, delta),
            after=after,
            limit=limit,
            delta=delta,
            units=words_for(event.unit).many,
        )
    return after


def _chained(facts: Mapping[str, Any], before: str) -> tuple[bytes, str]:
    chain = _hash(facts, before)
    return json.dumps({**facts, "chain": chain}).encode() + b"\n", chain


def _hash(facts: Mapping[str, Any], before: str) -> str:
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{canonical}".encode()).hexdigest()


def _facts(name: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise _damaged(name, number, "is not a record of a release")
    return facts


def _check_chain(
    name: str, number: int, facts: dict[str, Any], chains: list[str], unchained: str
) -> None:
    own = {key: value for key, value in facts.items() if key != "chain"}
    if facts.get("chain") != _hash(own, chains[-1] if chains else ""):
        raise _damaged(name, number, "does not follow from the line before: one was changed")
    if not chains and own.get("before") != unchained:
        raise _damaged(name, number, "does not follow from the lines before: one was changed")
    if not chains and own.get("format") != FORMAT_VERSION:
        raise LedgerError(
            f"{name} has format {own.get('format')!r}, this version reads {FORMAT_VERSION}"
        )


def _entry(name: str, number: int, facts: dict[str, Any], *, chained: bool) -> Entry:
    unit = _unit(name, number, facts)
    try:
        at = datetime.fromisoformat(facts["at"])
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        photos = str(facts["photos"]) if chained else None
        if not chained and "chain" in facts:
            raise ValueError("its ledger's first line is gone")
        if facts["kind"] == "gaussian_steps":
            noise, rate = float(facts["noise_multiplier"]), float(facts["sample_rate"])
            event: Event = GaussianSteps(noise, rate, int(facts["steps"]), unit)
        else:
            event = _KINDS[facts["kind"]](facts["what"])  # type: ignore[call-arg]
        delta = float(facts["delta"]) if "delta" in facts else None
        if delta is not None and not 0 < delta < 1:
            raise ValueError("no probability")
    except (ValueError, KeyError, TypeError, OverflowError):
        raise _damaged(name, number, "is not a record of a release") from None
    return Entry(event, photos, at, delta)


def _unit(name: str, number: int, facts: dict[str, Any]) -> Unit:
    try:
        return unit_of(facts)
    except ValueError as error:
        raise LedgerError(
            f"{name}, line {number} is about {error}", hint="a later version wrote it: use that one"
        ) from None


def _damaged(name: str, number: int, how: str) -> LedgerError:
    return LedgerError(
        f"{name}, line {number} {how}",
        hint="restore the file from a backup; without it, treat the budget as spent",
    )
