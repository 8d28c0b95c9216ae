"""What the sites of a run tell of their epsilon, and what the run may claim from it.

`spent.jsonl` in the run's directory has a line for every question and every answer, written as
they come and never taken back: not if the reply is set aside for another reason, the round brings
nothing, is rolled back, or the process dies in it.

    | {"event": "begun", "told": [{"epsilon": 2.5, "delta": 1e-05}], "silent": ["clinic-9"],
    |  "asked": true, "damaged": 0}          the first: what the run's figures said until then
    | {"round": 3, "of": "training", "node": "17", "site": "clinic-a", "event": "asked"}
    | {..., "event": "told", "epsilon": 3.2, "delta": 1e-05}    over all that was ever released,
    |  with "unit" where that is not a photo
    | {..., "event": "refused"}                                 nothing was charged
    | {"event": "anew", "sites": 8}          a simulation's nodes are others from here on

``of`` is "training" or "scores": photos kept aside pay for scores, the others for training.
A question that has no answer yet may have cost what nobody told; the next epsilon that the same
node tells holds it, for a ledger forgets nothing. What nodes of a simulation left open before it
went on, all of its sites' next ones hold.

All of it is the sites' word. A site can lie; the truth about its photos is its own ledger.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from facemorph_core.disk.records import (
    METRICS,
    ROLLED_BACK,
    append_entry,
    read_entries,
    write_entries,
)
from facemorph_core.errors import FederationError
from facemorph_core.learning.privacy.spent import Spent, rounded_up
from facemorph_core.learning.privacy.unit import Unit, recorded

log = logging.getLogger(__name__)

SPENT = "spent.jsonl"
Of = Literal["training", "scores"]
_SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of the sites' epsilon."""

    largest: Mapping[float, float] = field(default_factory=dict)
    """The largest epsilon of all sites, by the delta at which it was told."""
    silent: tuple[str, ...] = ()
    """Sites that were asked and may have spent more than they told."""
    asked: bool = False
    """Whether any site was."""
    damaged: int = 0
    """Lines that cannot be understood: they may have said more."""
    unit: Unit = "photo"
    """What the epsilon is for one of."""

    @property
    def for_all(self) -> Spent | None:
        """What holds for every site that told: the largest epsilon, the largest delta."""
        if not self.largest:
            return None
        return Spent(max(self.largest.values()), max(self.largest), self.unit)

    @property
    def is_all(self) -> bool:
        """Whether no site can have spent more than was told."""
        return not self.silent and not self.damaged

    def in_words(self) -> str:
        """What comes after "epsilon" in a sentence; every epsilon with its own delta."""
        if not self.largest:
            nothing = not self.asked and not self.damaged
            return "0 (no site was asked)" if nothing else "not known (no site told it)"
        pairs = (f"{rounded_up(e)} at delta {d!r}" for d, e in sorted(self.largest.items()))
        known = " and ".join(pairs)
        return known if self.is_all else f"at least {known} ({'; '.join(self._reasons())})"

    def _reasons(self) -> list[str]:
        reasons = []
        if self.silent:
            names = ", ".join(self.silent[:_SHOWN_NAMES])
            more = " ..." if len(self.silent) > _SHOWN_NAMES else ""
            reasons.append(f"not told to the end by {names}{more}")
        if self.damaged:
            reasons.append(f"{self.damaged} of the lines that say it cannot be read")
        return reasons


def note(
    run: Path,
    number: int,
    of: Of,
    *,
    node: int,
    site: str,
    event: Literal["asked", "refused"] | Spent,
) -> None:
    """Write down that a node was asked in round ``number``, refused, or told what was spent.

    Raises:
        OutputError: it cannot be written; then nobody may be asked.
    """
    entry: dict[str, Any] = {"round": number, "of": of, "node": str(node), "site": site}
    if isinstance(event, Spent):
        entry |= {"event": "told", **recorded(asdict(event))}
    else:
        entry["event"] = event
    _append(run, entry)


def note_anew(run: Path, *, sites: int) -> None:
    """Write down that a simulation of so many sites starts, whose nodes are new ones each time.

    Raises:
        OutputError: it cannot be written; then nobody may be asked.
    """
    _append(run, {"event": "anew", "sites": sites})


def read_told(run: Path) -> Told:
    """What the sites of the run in ``run`` told, in all rounds that it ever trained.

    A bundle of an earlier round says that too: which round is taken follows from all of them.

    Raises:
        OutputError: a file cannot be read.
    """
    entries = read_entries(run / SPENT)
    reading = _Reading(_first(entries[0]) if entries else None)
    if reading.before is None:  # no file, one of a version in between, or its first line is lost
        reading.before = _of_figures(run)
    for entry in entries:
        try:
            reading.take(entry)
        except FederationError:
            log.warning("%s: a line that says nothing is left out: %.200s", run / SPENT, entry)
            reading.damaged += 1
    return reading.result()


_Key = tuple[str, str]


class _Reading:
    """The lines of a file, taken one after the other."""

    def __init__(self, before: Told | None) -> None:
        self.before, self.damaged = before, 0
        self._largest: dict[float, float] = {}
        self._unit: Unit = before.unit if before else "photo"
        self._waiting: Counter[_Key] = Counter()
        self._tellers: set[_Key] = set()
        self._names: dict[str, str] = {}
        self._sites, self._earlier, self._since = 0, set[_Key](), set[_Key]()

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take in a line.

        Raises:
            FederationError: it is none of ours.
        """
        match entry.get("event"):
            case "begun":
                if _first(entry) is None:
                    raise FederationError("what was before cannot be read")
            case "anew":
                self._take_anew(entry.get("sites"))
            case "asked" | "told" | "refused" as event:
                self._take_of_node(event, entry)
            case _:
                raise FederationError("no event")

    def result(self) -> Told:
        """What they come to."""
        before = self.before or Told()
        largest = dict(before.largest)
        for delta, epsilon in self._largest.items():
            _put(largest, Spent(epsilon, delta))
        silent = {self._names[node] for (node, _), times in self._waiting.items() if times > 0}
        return Told(
            largest,
            tuple(sorted(silent | {*before.silent})),
            asked=before.asked or bool(self._names),
            damaged=before.damaged + self.damaged,
            unit=self._unit,
        )

    def _take_anew(self, sites: object) -> None:
        if not isinstance(sites, int) or isinstance(sites, bool) or sites < 1:
            raise FederationError("no number of sites")
        self._sites = max(self._sites, sites)
        self._earlier = {key for key, times in self._waiting.items() if times > 0}
        self._since = set()

    def _take_of_node(self, event: str, entry: Mapping[str, Any]) -> None:
        node, of, site = entry.get("node"), entry.get("of"), entry.get("site")
        if not (isinstance(node, str) and isinstance(site, str) and of in get_args(Of)):
            raise FederationError("no node, or asked for nothing")
        spent = Spent.parse(entry) if event == "told" else None
        if site != f"node {node}" or node not in self._names:
            self._names[node] = site  # a server that starts again knows no names yet
        key = node, str(of)
        if spent:
            _put(self._largest, spent)
            self._unit = spent.unit
            self._tellers.add(key)
            self._close(key)
        elif event == "asked":
            self._waiting[key] += 1
        elif key in self._tellers or of == "scores":
            self._waiting[key] -= 1  # who never told what training cost stays unknown

    def _close(self, key: _Key) -> None:
        self._waiting[key] = 0
        self._since.add(key)
        alike = {each for each in self._since if each[1] == key[1]}
        if self._sites and len(alike) >= self._sites:
            for each in self._earlier:
                if each[1] == key[1]:
                    self._waiting[each] = 0


# --- before there was a file -------------------------------------------------------------------


def _append(run: Path, entry: Mapping[str, Any]) -> None:
    """The file begins with what the figures say: from then on their rows are no longer asked."""
    if not (run / SPENT).exists():
        before = _of_figures(run)
        told = [
            recorded(asdict(Spent(epsilon, delta, before.unit)))
            for delta, epsilon in before.largest.items()
        ]
        facts = {"silent": [*before.silent], "asked": before.asked, "damaged": before.damaged}
        write_entries(run / SPENT, [{"event": "begun", "told": told, **facts}])
    append_entry(run / SPENT, entry)


def _first(entry: Mapping[str, Any]) -> Told | None:
    """What the first line says; None if it is none."""
    largest: dict[float, float] = {}
    unit: Unit = "photo"
    try:
        if entry["event"] != "begun":
            return None
        for spent in map(Spent.parse, entry["told"]):
            _put(largest, spent)
            unit = spent.unit
        silent = tuple(str(site) for site in entry["silent"])
        return Told(largest, silent, bool(entry["asked"]), int(entry["damaged"]), unit)
    except (FederationError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _of_figures(run: Path) -> Told:
    """All rows, also of rounds rolled back; whoever was set aside may have spent more."""
    rows = [row for name in (METRICS, ROLLED_BACK) for row in read_entries(run / name)]
    largest: dict[float, float] = {}
    silent: set[str] = set()
    damaged = 0
    for row in rows:
        try:
            figures = row.get("training") or {}
            if "epsilon" in figures or "delta" in figures:
                _put(largest, Spent.parse(figures))
            silent |= {str(item["site"]) for item in row.get("set_aside", ())}
        except (FederationError, KeyError, TypeError, AttributeError):
            log.warning("%s: a round whose figures say no epsilon: %.200s", run, row)
            damaged += 1
    asked = any(row.get("asked") for row in rows)
    return Told(largest, tuple(sorted(silent)), asked, damaged)


def _put(largest: dict[float, float], spent: Spent) -> None:
    largest[spent.delta] = max(spent.epsilon, largest.get(spent.delta, 0.0))
