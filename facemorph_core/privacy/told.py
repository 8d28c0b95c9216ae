"""What the sites of a run tell of their epsilon, and what the run may claim from it.

`spent.jsonl` in the run's directory has a line for every question and every answer, written as
they come and never taken back: not if the reply is set aside for another reason, the round brings
nothing, is rolled back, or the process dies in it.

    | {"round": 3, "of": "training", "node": "17", "site": "clinic-a", "event": "asked"}
    | {..., "event": "told", "epsilon": 3.2, "delta": 1e-05}    over all that was ever released
    | {..., "event": "refused"}                                 nothing was charged

``of`` is "training" or "scores": photos kept aside pay for scores, the others for training.
A question that has no answer yet may have cost what nobody told; the next epsilon that the same
node tells holds it, for a ledger forgets nothing.

All of it is the sites' word. A site can lie; the truth about its photos is its own ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from facemorph_core.privacy.spent import Spent, rounded_up
from facemorph_core.rundir import METRICS, ROLLED_BACK, append_entry, read_entries

SPENT = "spent.jsonl"
Of = Literal["training", "scores"]
_OLD_FIGURES = (METRICS, ROLLED_BACK)
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

    @property
    def for_all(self) -> Spent | None:
        """What holds for every site that told: the largest epsilon, the largest delta."""
        if not self.largest:
            return None
        return Spent(max(self.largest.values()), max(self.largest))

    def in_words(self) -> str:
        """What comes after "epsilon" in a sentence; every epsilon with its own delta."""
        if not self.largest:
            return "not known (no site told it)" if self.asked else "0 (no site was asked)"
        pairs = (f"{rounded_up(e)} at delta {d:g}" for d, e in sorted(self.largest.items()))
        known = " and ".join(pairs)
        if not self.silent:
            return known
        names = ", ".join(self.silent[:_SHOWN_NAMES])
        more = " ..." if len(self.silent) > _SHOWN_NAMES else ""
        return f"at least {known} (not told to the end by {names}{more})"


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
        entry |= {"event": "told", **event.as_record()}
    else:
        entry["event"] = event
    append_entry(run / SPENT, entry)


def read_told(run: Path, *, up_to: int | None = None) -> Told:
    """What the sites of the run in ``run`` told, in all rounds or in those up to one."""
    lines = read_entries(run / SPENT)
    known = {line["round"] for line in lines}
    older = [row for row in _figures(run) if row["round"] not in known]
    if up_to is not None:
        lines = [line for line in lines if line["round"] <= up_to]
        older = [row for row in older if row["round"] <= up_to]
    return _of_lines(lines, _of_figures(older))


def _of_lines(lines: Iterable[Mapping[str, Any]], before: Told) -> Told:
    largest, asked = dict(before.largest), before.asked
    waiting: Counter[tuple[str, str]] = Counter()
    tellers: set[tuple[str, str]] = set()
    names: dict[str, str] = {}
    for line in lines:
        key = line["node"], line["of"]
        if line["event"] != "asked" or line["node"] not in names:
            names[line["node"]] = line["site"]  # a server that starts again knows no names yet
        if line["event"] == "asked":
            asked = True
            waiting[key] += 1
        elif line["event"] == "told":
            _put(largest, line)
            waiting[key] = 0
            tellers.add(key)
        elif key in tellers or line["of"] == "scores":
            waiting[key] -= 1  # who never told what training cost stays unknown
    silent = {names[node] for (node, _), times in waiting.items() if times > 0}
    return Told(largest, tuple(sorted(silent | {*before.silent})), asked)


def _of_figures(rows: list[dict[str, Any]]) -> Told:
    """Of rounds before there was a file: whoever was set aside may have spent more."""
    largest: dict[float, float] = {}
    silent: set[str] = set()
    for row in rows:
        if {"epsilon", "delta"} <= {*row.get("training", {})}:
            _put(largest, row["training"])
        silent |= {item["site"] for item in row.get("set_aside", ())}
    return Told(largest, tuple(sorted(silent)), any(row.get("asked") for row in rows))


def _figures(run: Path) -> list[dict[str, Any]]:
    return [row for name in _OLD_FIGURES for row in read_entries(run / name) if "round" in row]


def _put(largest: dict[float, float], pair: Mapping[str, Any]) -> None:
    delta = float(pair["delta"])
    largest[delta] = max(float(pair["epsilon"]), largest.get(delta, 0.0))
