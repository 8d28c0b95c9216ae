"""Every error that a user can cause, with its exit code and, where there is one, a hint.

FaceMorphError                 1
├── ConfigError                2   a config file or an override is not valid
├── MissingExtra               3   a command needs an optional install
├── PhotoError                 4   a photo cannot be used
│   ├── UnreadablePhoto            not an image, truncated, or beyond the pixel limit
│   ├── NoFaceFound                no face, with what was tried
│   └── AmbiguousFace              several faces where exactly one was asked for
├── ShardError                 5   a shard is missing, damaged or of another version
├── ModelError                 6   weights do not fit the model, or a model cannot be found
│   └── BundleError                a bundle is damaged or not one of ours
├── TrainingDiverged           7   a loss or a weight is no longer a number
├── BudgetExhausted            8   a release would cost more privacy than allowed
├── FederationError            9   a round or a run cannot go on
├── WeightsUnavailable        10   third-party weights cannot be had here
├── HubError                  11   the model hub cannot be reached or refuses
│   ├── InvalidReference           a name or an address of a hub that cannot be
│   ├── HubUnreachable             no answer from the hub
│   │   ├── HubBusy                    it answers, and has no room now
│   │   └── HubUnusable                a certificate, a proxy, another program: it will not pass
│   └── UnknownModel               the hub has no such name or version
├── OutputError               12   a result cannot be written
├── LedgerError               13   the record of privacy spent is damaged
├── PairsError                14   a table of pairs of photos cannot be used
├── LimitsExceeded            15   a run asks for what the site's own limits forbid
└── DeltaTooLarge             16   a promise that giving away a whole photo would keep

>>> error = NoFaceFound("group.jpg", "no face was found", hint="use a larger photo")
>>> str(error), error.exit_code, error.hint
('group.jpg: no face was found', 4, 'use a larger photo')
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "AmbiguousFace",
    "BudgetExhausted",
    "BundleError",
    "ConfigError",
    "DeltaTooLarge",
    "FaceMorphError",
    "FederationError",
    "HubBusy",
    "HubError",
    "HubUnreachable",
    "HubUnusable",
    "InvalidReference",
    "LedgerError",
    "LimitsExceeded",
    "MissingExtra",
    "ModelError",
    "NoFaceFound",
    "OutputError",
    "PairsError",
    "PhotoError",
    "ShardError",
    "TrainingDiverged",
    "UnknownModel",
    "UnreadablePhoto",
    "WeightsUnavailable",
]


class FaceMorphError(Exception):
    """Base of all errors that are shown to a user as a message, never as a traceback.

    ``exit_code`` is that of the command; ``hint``, if there is one, says what to do.

    Examples:
        >>> error = PhotoError("anna.jpg", "no face found", hint="crop it to the face")
        >>> str(error), error.exit_code, error.hint
        ('anna.jpg: no face found', 4, 'crop it to the face')
        >>> isinstance(error, FaceMorphError)
        True
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(FaceMorphError):
    """One config file, all its mistakes: ``problems`` holds one line each."""

    exit_code = 2

    def __init__(
        self, source: str, problems: Sequence[str] = (), *, hint: str | None = None
    ) -> None:
        self.source, self.problems = source, tuple(problems)
        lines = [f"{source} is not a valid run config:", *(f"  {line}" for line in problems)]
        super().__init__("\n".join(lines), hint=hint)


class MissingExtra(FaceMorphError):
    """An optional part of the package is not installed."""

    exit_code = 3

    def __init__(self, extra: str, *, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the optional part '{extra}', which is not installed",
            hint=f'pip install "facemorph-core[{extra}]"',
        )


class PhotoError(FaceMorphError):
    """A photo that cannot be used; ``photo`` names it."""

    exit_code = 4

    def __init__(self, photo: str | Path, reason: str, *, hint: str | None = None) -> None:
        self.photo, self.reason = str(photo), reason
        super().__init__(f"{photo}: {reason}", hint=hint)


class UnreadablePhoto(PhotoError):
    """Not an image, truncated, or larger than the pixel limit."""


class NoFaceFound(PhotoError):
    """No face was found; the message says what was tried."""


class AmbiguousFace(PhotoError):
    """Several faces where exactly one was asked for, or a face number that does not exist."""


class ShardError(FaceMorphError):
    """A shard is missing, damaged or of another version."""

    exit_code = 5


class ModelError(FaceMorphError):
    """Weights do not fit the model, or a model cannot be found."""

    exit_code = 6


class BundleError(ModelError):
    """A bundle is damaged, of another version, or not one of ours."""


class TrainingDiverged(FaceMorphError):
    """A loss or a weight is no longer a finite number."""

    exit_code = 7


class BudgetExhausted(FaceMorphError):
    """The next release would cost more privacy than the limit; nothing was released."""

    exit_code = 8

    def __init__(
        self, *, spent: float, after: float, limit: float, delta: float, units: str = "photos"
    ) -> None:
        self.spent, self.after, self.limit, self.delta = spent, after, limit, delta
        if math.isinf(spent):
            words = f"something about these {units} left without noise: no finite epsilon holds"
            hint = f"a site's ledger says what and when; other {units} have a budget of their own"
        else:
            words = (
                f"the next release would raise epsilon from {spent:.2f} to {after:.2f}, "
                f"past the limit of {limit:.2f} (delta={delta:g})"
            )
            hint = "stop here, or start a new run with a larger privacy.max_epsilon"
        super().__init__(words, hint=hint)


class LimitsExceeded(FaceMorphError):
    """A run asks for what the site's own limits forbid; nothing was computed."""

    exit_code = 15


class DeltaTooLarge(FaceMorphError):
    """Delta is not below one over the number of units that are protected; nothing was computed."""

    exit_code = 16

    def __init__(self, *, delta: float, count: int, units: str = "photos") -> None:
        self.delta, self.count = delta, count
        super().__init__(
            f"a delta of {delta:g} for {count} {units} is no promise: whoever gave one of them "
            "away whole, drawn by lot, would keep it",
            hint=f"set privacy.delta well below 1/{count}, such as 1e-5",
        )


class FederationError(FaceMorphError):
    """A round or a whole run cannot go on."""

    exit_code = 9


class WeightsUnavailable(FaceMorphError):
    """Third-party weights cannot be had: no network, or a file with another hash."""

    exit_code = 10


class HubError(FaceMorphError):
    """The model hub cannot be reached, or refuses what was asked."""

    exit_code = 11


class InvalidReference(HubError):
    """A name, a version or an address that no hub can have."""


class HubUnreachable(HubError):
    """No answer from the hub: no network, nothing listening, or something in between."""


class HubBusy(HubUnreachable):
    """The hub answers that it has no room at the moment."""


class HubUnusable(HubUnreachable):
    """What answers cannot be taken for the hub, or does not let us through: it will not pass."""


class UnknownModel(HubError):
    """The hub has no model of this name, or not this version of it."""


class OutputError(FaceMorphError):
    """A result cannot be written: it exists, the disk is full, or the format is unknown."""

    exit_code = 12


class LedgerError(FaceMorphError):
    """The record of what was released is damaged, so what is left to spend is not known."""

    exit_code = 13


class PairsError(FaceMorphError):
    """A table of pairs of photos cannot be read, or pairs cannot be made."""

    exit_code = 14
