"""Runs on the disk: which one a config goes on with, and how it is held, begun, failed and ended.

    | config.yaml     the resolved config         metrics.jsonl  one line a round or an epoch
    | state.json      where the run stands        checkpoints/, samples/

Federated runs and those of central training keep these laws; what else is theirs, each kind says.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

from pydantic import TypeAdapter

from facemorph_core.config.changes import in_words
from facemorph_core.config.load import dump_run_config, load_run_config
from facemorph_core.config.schema import RunConfig
from facemorph_core.config.standing import CONFIG, FORMAT_VERSION, Standing, changes_of
from facemorph_core.disk.output import reported_output
from facemorph_core.disk.records import keep_metrics, write_atomic
from facemorph_core.disk.run_folder import (
    STATE,
    held_alone,
    noting_failure,
    read_values,
    reason,
    taken_and_free,
    write_values,
)
from facemorph_core.errors import FaceMorphError

__all__ = ["HeldRun", "Runs"]

S = TypeVar("S", bound=Standing)


@dataclass(frozen=True, slots=True)
class Runs(Generic[S]):
    """All runs of one kind."""

    states: TypeAdapter[S]
    fresh: Callable[[RunConfig], S]
    """The state of a new run."""
    kind: str
    """In the name of the folder and in ``state.json``; empty for what has no word there."""
    of: str
    """As in "a run of ...", for a reader."""
    unit: str
    """What its numbers count."""
    error: type[FaceMorphError]
    elsewhere: str
    """How its user names another folder."""
    log: logging.Logger

    def read(self, path: Path) -> S | None:
        """The state in a run directory, or None if there is none yet.

        Raises:
            FaceMorphError: `error`: it is damaged, of another version, or of another kind of run.
        """
        file = path / STATE
        try:
            values = read_values(path)
            if values is None:
                return None
            if values.get("kind", "") != self.kind:
                raise self.error(f"{path} is not a run of {self.of}", hint=self.elsewhere)
            if (version := values["format_version"]) == FORMAT_VERSION:
                return self.states.validate_python(values)
        except OSError as error:
            raise self.error(f"{file} cannot be read: {error.strerror or error}") from None
        except (ValueError, KeyError):
            raise self.error(
                f"{file} is damaged",
                hint="bring it back, or move the run directory away and start anew "
                f"(facemorph-core bundle makes a model of what is in {path / 'checkpoints'})",
            ) from None
        raise self.error(f"{path} has format {version}, this version reads {FORMAT_VERSION}")

    def write(self, path: Path, state: S) -> None:
        """Replace the state in a run directory; it is on the disk before this returns."""
        write_values(path, asdict(state))

    def choose(self, root: Path, config: RunConfig) -> Path:
        """The folder for ``config`` under ``root``.

        That of its own earlier run if ``resume`` allows, the first by `Standing.rank`; else its
        name, with a number where another run has taken that. Runs that cannot be read are passed
        by, with a warning.

        Raises:
            FaceMorphError: `error`: ``resume`` is ``must``, and there is nothing to go on with.
        """
        name = f"{config.name}-{self.kind}" if self.kind else config.name
        taken, free = taken_and_free(root, name)
        if config.resume == "never":
            return free
        ours = [(path, state) for path in taken if (state := self._if_ours(path, config))]
        ranked = [(rank, path) for path, state in ours if (rank := state.rank(config)) is not None]
        if ranked:
            return min(ranked, key=lambda run: run[0])[1]
        if config.resume == "must":
            for path, state in ours:
                state.going_on(path, config)  # raises: it has done more than is wanted
            raise self._nothing_to_go_on_with(root)
        return free

    def _if_ours(self, path: Path, config: RunConfig) -> S | None:
        """The state of a run that ``config`` may go on with."""
        try:
            state = self.read(path)
            if state and all(change.allowed for change in changes_of(path, state, config)):
                return state
        except FaceMorphError as error:
            self.log.warning("%s is passed by: %s", path, reason(error))
        return None

    def opened(self, path: Path, config: RunConfig) -> tuple[RunConfig, S]:
        """What a run in ``path`` begins with or goes on with; nothing is written.

        A complete run keeps its own config.

        Raises:
            FaceMorphError: `error`: the folder holds a run of another config, or one that cannot go
                on.
        """
        state = self.read(path)
        if state is None:
            if any((path / "checkpoints").glob("[!.]*.safetensors")):
                raise self.error(
                    f"{path} holds checkpoints and no {STATE}",
                    hint=f"bring it back, or {self.elsewhere}",
                )
            return config, self._fresh(path, config)
        if config.resume == "never" and state.has_begun:
            raise self.error(
                f"{path} holds a run that stands at {self.unit} {state.done}, and resume is never",
                hint="name a folder that is not there yet, or start it with resume: auto",
            )
        changed = changes_of(path, state, config)
        other = [change for change in changed if not change.allowed]
        if other and not state.has_begun:
            self.log.warning(
                "%s has no %s yet and begins anew: %s", path, self.unit, in_words(other)
            )
            return config, self._fresh(path, config)
        if other:
            raise self.error(
                f"{path} holds a run of another config: {in_words(other)}",
                hint=f"{self.elsewhere}, or set these back",
            )
        if state.is_over(config):
            if changed:
                self.log.warning("%s is complete and stays as it is: %s", path, in_words(changed))
            return (load_run_config(path / CONFIG) if changed else config), state
        going_on = state.going_on(path, config)
        for each in changed:
            self.log.warning("%s goes on with %s %s -> %s", path, *astuple(each))
        return config, going_on

    def _fresh(self, path: Path, config: RunConfig) -> S:
        if config.resume == "must":
            raise self._nothing_to_go_on_with(path)
        return self.fresh(config)

    def _nothing_to_go_on_with(self, where: Path) -> FaceMorphError:
        kind = f"{self.kind} " if self.kind else ""
        return self.error(
            f"there is no {kind}run of this config under {where} to go on with",
            hint="start it with resume: auto",
        )


class HeldRun(Generic[S]):
    """One run on the disk, held by one process at a time."""

    runs: Runs[S]

    def __init__(self, path: Path, config: RunConfig, state: S) -> None:
        self.path, self.config, self.state = path, config, state

    @classmethod
    @contextlib.contextmanager
    def held(cls, path: Path, config: RunConfig) -> Iterator[Self]:
        """The run of ``config`` in ``path``, new or to go on with, locked.

        A failure inside is written to ``state.json`` before it goes on its way.

        Raises:
            FaceMorphError: the folder holds a run of another config, or one that cannot go on.
            OutputError: another process holds the run, or the folder cannot be written.
        """
        hint = f"wait for it, or {cls.runs.elsewhere}"
        with held_alone(path, other="run", hint=hint):
            run = cls(path, *cls.runs.opened(path, config))
            run._require_readable()
            with noting_failure(lambda error: run._save_state(run.state.failed(error))):
                if run.state.status != "completed":
                    run._begin()
                yield run

    def complete(self) -> None:
        """Mark the run as finished."""
        self._save_state(replace(self.state, status="completed"))

    def _require_readable(self) -> None:
        """Raise if what the run goes on from cannot be read."""

    def _begin(self) -> None:
        """Make the folder say what is run from here."""
        with reported_output(self.path):
            for folder in ("checkpoints", "samples"):
                (self.path / folder).mkdir(exist_ok=True)
        write_atomic(self.path / CONFIG, dump_run_config(self.config).encode())
        # the figures before round 1 are taken again
        keep_metrics(self.path, up_to=self.state.done or -1, key=self.runs.unit)
        self._save_state(self.state)

    def _save_state(self, state: S) -> None:
        self.runs.write(self.path, state)
        self.state = state
