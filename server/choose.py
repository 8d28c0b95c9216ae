"""Which folder a config runs in: that of its own earlier run, or one of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from facemorph_core.config import RunConfig
from facemorph_core.disk.output import reported_output
from facemorph_core.errors import ConfigError, FederationError
from server.runs import nothing_to_go_on_with, too_few_rounds
from server.runstate import RunState, changes_of, read_state, reason

__all__ = ["choose_run"]

log = logging.getLogger("flwr")


def choose_run(root: Path, config: RunConfig) -> Path:
    """The folder for ``config`` under ``root``.

    That of its own earlier run if ``resume`` allows, else its name, with a number where the name
    is taken by another run. A run of as many rounds comes first, then one that was interrupted;
    one that is complete is made longer only if ``resume`` is ``must``.

    Runs that cannot be read are passed by, with a warning.

    Raises:
        FederationError: if ``resume`` is ``must`` and there is nothing to go on with.
    """
    *taken, free = _folders(root, config.name)
    if config.resume == "never":
        return free
    ours = [(path, state) for path in taken if (state := _if_ours(path, config))]
    rounds = config.federation.rounds
    same = [run for run in ours if run[1].rounds == rounds]
    interrupted = [run for run in ours if run[1].status != "completed" and run[1].round <= rounds]
    shorter = [run for run in ours if run[1].round <= rounds] if config.resume == "must" else []
    shorter.sort(key=lambda run: -run[1].round)
    for path, _ in (*same, *interrupted, *shorter):
        return path
    if config.resume == "must":
        for path, state in ours:
            raise too_few_rounds(path, state, rounds)
        raise nothing_to_go_on_with(root)
    return free


def _folders(root: Path, name: str) -> Iterator[Path]:
    """The folders that runs of a name have taken, and last the first that is free."""
    number, path = 1, root / name
    while _visible_files(path):
        yield path
        number += 1
        path = root / f"{name}-{number}"
    yield path


def _if_ours(path: Path, config: RunConfig) -> RunState | None:
    """The state of a run that ``config`` may go on with."""
    try:
        state = read_state(path)
        if state and all(change.allowed for change in changes_of(path, state, config)):
            return state
    except (FederationError, ConfigError) as error:
        log.warning("%s is passed by: %s", path, reason(error))
    return None


def _visible_files(path: Path) -> bool:
    with reported_output(path):
        if not path.is_dir():
            return path.exists()
        try:
            return any(not entry.name.startswith(".") for entry in path.iterdir())
        except PermissionError:
            return True  # somebody else's
