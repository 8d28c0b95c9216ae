"""Why a site did not do what it was asked: a fixed list, so that no text of a site leaks.

An exception's own words can hold paths and file names of a site. They stay in the site's log;
what travels is one of these codes with its sentence.
"""

from __future__ import annotations

from enum import IntEnum

from facemorph_core.errors import (
    BudgetExhausted,
    ConfigError,
    DeltaTooLarge,
    FaceMorphError,
    LedgerError,
    LimitsExceeded,
    ModelError,
    ShardError,
    TrainingDiverged,
    WeightsUnavailable,
)


class Refusal(IntEnum):
    """A reason that may leave a site."""

    FAILED = 1000
    VERSION_DIFFERS = 1001
    CONFIG_DIFFERS = 1002
    CODE_DIFFERS = 1003
    WEIGHTS_DIFFER = 1004
    SHARD_UNUSABLE = 1005
    DIVERGED = 1006
    BUDGET_EXHAUSTED = 1007
    WEIGHTS_MISSING = 1008
    NOTHING_TO_SCORE = 1009
    LIMITS_EXCEEDED = 1010
    SCORES_NOT_DUE = 1011
    LEDGER_UNUSABLE = 1012
    DELTA_TOO_LARGE = 1013

    @property
    def sentence(self) -> str:
        """The reason in words that hold nothing of the site."""
        return _SENTENCES[self]


_SENTENCES = {
    Refusal.FAILED: "the round failed at the site; its own log says why",
    Refusal.VERSION_DIFFERS: "the site has another version of facemorph_core",
    Refusal.CONFIG_DIFFERS: "the site resolved another config than the server",
    Refusal.CODE_DIFFERS: "the site runs other code (client or facemorph_core) than the server",
    Refusal.WEIGHTS_DIFFER: "the weights sent do not fit the model that the site built",
    Refusal.SHARD_UNUSABLE: "the site's shard is missing, empty or damaged",
    Refusal.DIVERGED: "the loss stopped being a number; the round was dropped",
    Refusal.BUDGET_EXHAUSTED: "the round would pass the site's privacy budget",
    Refusal.WEIGHTS_MISSING: "the site lacks the pretrained weights that the loss needs",
    Refusal.NOTHING_TO_SCORE: "the site keeps no faces aside to score on",
    Refusal.LIMITS_EXCEEDED: "the site's own limits forbid what was asked for",
    Refusal.SCORES_NOT_DUE: "scores were asked for in a round in which they are not due",
    Refusal.LEDGER_UNUSABLE: "the site's ledger is missing, damaged or cannot be written",
    Refusal.DELTA_TOO_LARGE: "privacy.delta is not below one over the site's number of photos",
}

BEFORE_A_CHARGE = frozenset(
    {
        Refusal.VERSION_DIFFERS,
        Refusal.CONFIG_DIFFERS,
        Refusal.CODE_DIFFERS,
        Refusal.WEIGHTS_DIFFER,
        Refusal.SHARD_UNUSABLE,
        Refusal.BUDGET_EXHAUSTED,
        Refusal.WEIGHTS_MISSING,
        Refusal.NOTHING_TO_SCORE,
        Refusal.LIMITS_EXCEEDED,
        Refusal.SCORES_NOT_DUE,
        Refusal.DELTA_TOO_LARGE,
    }
)
"""What a site under differential privacy says only while nothing is in its ledger for the round."""


class Refused(FaceMorphError):
    """A request that this site refuses before it does any work."""

    exit_code = 9

    def __init__(self, refusal: Refusal, detail: str) -> None:
        self.refusal = refusal
        super().__init__(detail)


def refusal_for(error: Exception) -> Refusal:
    """The code under which ``error`` may be told to others."""
    match error:
        case Refused():
            return error.refusal
        case BudgetExhausted():
            return Refusal.BUDGET_EXHAUSTED
        case DeltaTooLarge():
            return Refusal.DELTA_TOO_LARGE
        case LimitsExceeded():
            return Refusal.LIMITS_EXCEEDED
        case LedgerError():
            return Refusal.LEDGER_UNUSABLE
        case TrainingDiverged():
            return Refusal.DIVERGED
        case ShardError():
            return Refusal.SHARD_UNUSABLE
        case ConfigError():
            return Refusal.CONFIG_DIFFERS
        case ModelError():
            return Refusal.WEIGHTS_DIFFER
        case WeightsUnavailable():
            return Refusal.WEIGHTS_MISSING
        case _:
            return Refusal.FAILED
