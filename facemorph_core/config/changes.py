"""Where two configs differ, and which of that a run may go on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from facemorph_core.config.schema import RunConfig

__all__ = ["HOW_A_RUN_IS_RUN", "Change", "changes", "in_words"]

HOW_A_RUN_IS_RUN = frozenset(
    {
        "federation.rounds",
        "federation.quorum",
        "federation.deadline",
        "federation.join_deadline",
        "federation.max_failed_rounds",
        "federation.reply_memory",
        "federation.keep_checkpoints",
        "federation.evaluate_every",
        "evaluation.every",
        "evaluation.samples",
    }
)
"""Settings that may change when a run goes on: how long it is, how patient the server is, what it
keeps and how often it looks. All others make a run another one: they decide what a round does to
the model, what a site promises, or which faces the scores of all rounds are of. (`resume` is no
part of a run: neither here nor in its digest.)"""


@dataclass(frozen=True, slots=True)
class Change:
    """One setting, by its dotted name, and its values; None where a section has it not."""

    setting: str
    there: Any
    here: Any

    @property
    def allowed(self) -> bool:
        """Whether a run may go on with it."""
        return self.setting in HOW_A_RUN_IS_RUN


def changes(there: RunConfig, here: RunConfig) -> tuple[Change, ...]:
    """The settings that differ, in the order of the schema; `resume` is none of the run's."""
    before, after = (
        dict(_flat(each.model_dump(mode="json", exclude={"resume"}))) for each in (there, here)
    )
    names = dict.fromkeys([*before, *after])
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def in_words(differing: Iterable[Change], *, there: str = "there", here: str = "here") -> str:
    """``"model.width is 48 there and 64 here"``."""
    return "; ".join(
        f"{each.setting} is {_shown(each.there)} {there} and {_shown(each.here)} {here}"
        for each in differing
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value) if value == "" else str(value)
