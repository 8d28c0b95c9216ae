"""YAML and dotted overrides in, a frozen `RunConfig` out, with all mistakes in one error."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from facemorph_core.config.schema import RunConfig, Section
from facemorph_core.config.strict_yaml import read_yaml
from facemorph_core.errors import ConfigError

S = TypeVar("S", bound=Section)


def load_run_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """The config in ``path`` with ``overrides`` such as ``"model.width=32"`` applied in order.

    Raises:
        ConfigError: with one line for each mistake of the file and of the overrides.

    Examples:
        >>> _ = Path("mine.yaml").write_text("name: mine")
        >>> config = load_run_config("mine.yaml", ["model.kind=ae", "training.learning_rate=1e-3"])
        >>> config.model.kind, config.training.learning_rate, config.federation.rounds
        ('ae', 0.001, 10)
        >>> load_run_config("mine.yaml", ["federation.round=3"])
        Traceback (most recent call last):
        facemorph_core.errors.ConfigError: mine.yaml is not a valid run config:
          federation.round: Extra inputs are not permitted (got 3)
    """
    source = str(path)
    values = _read(Path(path))
    problems = [problem for item in overrides if (problem := _apply(values, item)) is not None]
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        problems += [_line(detail) for detail in error.errors(include_url=False)]
    if problems:
        raise ConfigError(source, problems)
    return config


def load_section(path: Path, kind: type[S]) -> S:
    """A YAML file of one section, such as a site's limits.

    Raises:
        ConfigError: with one line for each mistake.
    """
    values = _read(path)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [_line(detail) for detail in error.errors(include_url=False)]
        raise ConfigError(str(path), problems) from None


def split_overrides(text: str) -> list[str]:
    """``"a.b=1 c.d='x y'"`` as a list: how overrides travel through ``--run-config``."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError("overrides", [f"{text!r}: {error}"]) from None


def dump_run_config(config: RunConfig) -> str:
    """The resolved config as YAML that `load_run_config` reads back to an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def digest(config: RunConfig) -> str:
    """SHA-256 of what decides the training, equal wherever the config resolves to the same run.

    ``resume`` is left out: it says how to start a process, not what the run is.
    """
    values = config.model_dump(mode="json", exclude={"resume"})
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            str(path),
            [f"cannot be read: {error.strerror or error}"],
            hint="name a YAML file, for example one of those in configs/",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"not YAML: {error}"]) from None
    except ValueError as error:
        raise ConfigError(str(path), [str(error)]) from None
    if not isinstance(values, dict):
        raise ConfigError(str(path), [f"a mapping of settings is expected (got {values!r})"])
    return values


def _apply(values: dict[str, Any], override: str) -> str | None:
    """Set one dotted key in place; the problem as text if the override cannot be read."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        return f"{override}: an override reads section.key=value"
    try:
        value = read_yaml(text)
    except ValueError as error:
        return f"{override}: {error}"
    section = values
    for part in parts[:-1]:
        inner = section.get(part)
        if not isinstance(inner, dict):
            inner = section[part] = {}
        section = inner
    section[parts[-1]] = value
    return None


def _line(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        return f"{where}: {message}"
    got = detail["input"]
    shown = "" if isinstance(got, dict) else f" (got {got!r})"
    return f"{where}: {message}{shown}" if where else f"{message}{shown}"
