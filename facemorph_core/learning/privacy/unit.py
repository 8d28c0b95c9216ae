"""What differential privacy protects as one thing, and the words for it in every sentence.

Neighbouring shards differ by adding or removing one unit. Whoever adds a unit says its words here,
how events of different units compose (`accountant`), and what a run claims whose sites differ
(`told`). Records of photos do not name their unit: versions before there was a choice wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, assert_never, get_args

Unit = Literal["photo"]


@dataclass(frozen=True, slots=True)
class UnitWords:
    """The words for a unit."""

    one: str
    """As in "one photo" and "each photo's"."""
    many: str
    beyond: str
    """What is more than one unit, and therefore not covered."""


def words_for(unit: Unit) -> UnitWords:
    """The words for ``unit``.

    >>> words_for("photo").beyond
    'all photos of one person together'
    """
    match unit:
        case "photo":
            return UnitWords("photo", "photos", beyond="all photos of one person together")
        case _:
            assert_never(unit)


def recorded(facts: Mapping[str, Any]) -> dict[str, Any]:
    """``facts`` as a file holds them: that the unit is a photo goes without saying."""
    return {key: value for key, value in facts.items() if (key, value) != ("unit", "photo")}


def unit_of(record: Mapping[str, object]) -> Unit:
    """The unit that a record names.

    Raises:
        ValueError: it names one that this version does not know, which is not guessed at.
    """
    named = record.get("unit", "photo")
    for known in get_args(Unit):
        if named == known:
            return known
    raise ValueError(f"a unit that this version does not know ({named!r:.40})")
