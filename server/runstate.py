"""Where a run stands: its state.json, and what distinguishes it from other runs."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from facemorph_core.config import RunConfig, digest, load_run_config
from facemorph_core.config.changes import Change, changes
from facemorph_core.config.strict_yaml import read_yaml
from facemorph_core.disk.output import FULL, output_error
from facemorph_core.disk.records import write_atomic
from facemorph_core.errors import ConfigError, FaceMorphError, FederationError, OutputError

FORMAT_VERSION = 1
REASON_FILE = "FACEMORPH_REASON_FILE"
"""Variable with the file in which the starter of the app looks for why it failed."""


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands."""

    id: str
    """Random, hexadecimal; names the run at its sites."""
    config_digest: str
    started: str
    rounds: int
    round: int = 0
    """Rounds whose checkpoint is on the disk."""
    status: Literal["running", "completed", "failed"] = "running"
    error: str = ""
    best_round: int = 0
    """The best of them, whose checkpoint stays; 0 while no figure judges any."""
    format_version: int = FORMAT_VERSION

    def failed(self, error: BaseException) -> RunState:
        """The state of a run that ``error`` stopped."""
        return replace(self, status="failed", error=reason(error))


_STATE = TypeAdapter(RunState)


def reason(error: BaseException) -> str:
    """Why something stopped, for whoever started it: the message, and its hint in a second line."""
    if isinstance(error, OSError) and error.errno in FULL:
        error = output_error(error, error.filename or "the run directory")
    if not isinstance(error, FaceMorphError):
        return f"{type(error).__name__}: {error}"
    return f"{error}\n hint: {error.hint}" if error.hint else str(error)


def as_error(words: str, *, otherwise: str) -> FederationError:
    """The inverse of `reason`; ``otherwise`` is the hint where it gave none."""
    message, _, hint = words.partition("\n hint: ")
    return FederationError(message, hint=hint or otherwise)


def tell_starter(error: BaseException) -> None:
    """Leave the reason where the process that started this one looks for it, if it does.

    It cannot look into the run directory for what happens before that is open.
    """
    if where := os.environ.get(REASON_FILE):
        with contextlib.suppress(OutputError):
            write_atomic(Path(where), reason(error).encode())


def read_state(path: Path) -> RunState | None:
    """The state in a run directory, or None if there is none yet.

    Raises:
        FederationError: if it is damaged or of another version.
    """
    file = path / "state.json"
    try:
        values: Any = json.loads(file.read_bytes())
        if isinstance(values, dict) and values.get("kind") == "central":
            raise FederationError(
                f"{path} is a run of central training", hint="choose another folder"
            )
        version = values["format_version"]
        if version == FORMAT_VERSION:
            return _STATE.validate_python(values)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FederationError(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError):
        raise FederationError(
            f"{file} is damaged",
            hint="bring it back, or move the run directory away and start anew "
            f"(facemorph-core bundle makes a model of what is in {path / 'checkpoints'})",
        ) from None
    raise FederationError(f"{path} has format {version}, this version reads {FORMAT_VERSION}")


def write_state(path: Path, state: RunState) -> None:
    """Replace the state in a run directory; it is on the disk before this returns."""
    write_atomic(path / "state.json", json.dumps(asdict(state), indent=2).encode())


def changes_of(path: Path, state: RunState, config: RunConfig) -> tuple[Change, ...]:
    """Where ``config`` differs from the run's own, which stands in its config.yaml.

    Raises:
        ConfigError: that file is damaged or of another version, and ``config`` is not the one that
            it held.
    """
    if state.config_digest == digest(config):
        return ()
    try:
        return changes(load_run_config(path / "config.yaml"), config)
    except ConfigError as error:
        if _is_mapping(path / "config.yaml"):
            error.hint = (
                "this version refuses what the run was started with: end it with the version that "
                "began it, or start a new run in another folder"
            )
        else:
            error.hint = "bring it back, or start with exactly the settings that the run has had"
        raise


def _is_mapping(file: Path) -> bool:
    try:
        return isinstance(read_yaml(file.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False
