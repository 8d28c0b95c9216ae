"""Where a run stands: what the ``state.json`` of every kind of run says, and what it is worth."""

# Annotations are values here: pydantic reads those of subclasses in other modules.

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from facemorph_core.config.changes import Change, changes
from facemorph_core.config.load import digest, load_run_config
from facemorph_core.config.schema import RunConfig
from facemorph_core.config.strict_yaml import read_yaml
from facemorph_core.disk.run_folder import reason
from facemorph_core.errors import ConfigError

__all__ = ["CONFIG", "FORMAT_VERSION", "Standing", "changes_of"]

CONFIG = "config.yaml"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing(ABC):
    """Where a run stands; each kind of run adds what it goes on from."""

    config_digest: str
    status: Literal["running", "completed", "failed"] = "running"
    error: str = ""
    format_version: int = FORMAT_VERSION

    @property
    @abstractmethod
    def done(self) -> int:
        """Rounds or epochs that count."""

    @property
    def has_begun(self) -> bool:
        """Whether anything was trained that another config could contradict."""
        return self.done > 0

    def is_over(self, config: RunConfig) -> bool:
        """Whether nothing of ``config``, one that this run may go on with, is left to do."""
        return self.status == "completed"

    def rank(self, config: RunConfig) -> tuple[int, ...] | None:
        """What comes first of several runs that ``config`` may go on with; None: not at all."""
        return (0,)

    def going_on(self, path: Path, config: RunConfig) -> Self:
        """From here on under ``config``; raises if the run in ``path`` is past what that wants."""
        return replace(self, config_digest=digest(config), status="running", error="")

    def failed(self, error: BaseException) -> Self:
        """Stopped by ``error``; a complete run stays complete."""
        if self.status == "completed":
            return self
        return replace(self, status="failed", error=reason(error))


def changes_of(path: Path, state: Standing, config: RunConfig) -> tuple[Change, ...]:
    """Where ``config`` differs from the run's own, which stands in its config.yaml.

    Raises:
        ConfigError: that file is damaged or of another version, and ``config`` is not the one that
            it held.
    """
    if state.config_digest == digest(config):
        return ()
    try:
        return changes(load_run_config(path / CONFIG), config)
    except ConfigError as error:
        if isinstance(_yaml(path / CONFIG), dict):
            error.hint = (
                "this version refuses what the run was started with: end it with the version that "
                "began it, or start a new run in another folder"
            )
        else:
            error.hint = "bring it back, or start with exactly the settings that the run has had"
        raise


def _yaml(file: Path) -> Any:
    try:
        return read_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
