"""The ServerApp: config, run directory, rounds, bundle.

It holds no photo of a site. Every round leaves a checkpoint, a line of figures and a picture,
so that a killed run goes on where it stopped.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid.inmemory_grid import InMemoryGrid

from facemorph_core.config import load_run_config
from facemorph_core.config.load import split_overrides
from facemorph_core.config.schema import FederationConfig
from facemorph_core.errors import FaceMorphError
from facemorph_core.learning.federated import Handshake, shared_weights, signature, weights_problem
from facemorph_core.learning.models import build_model
from facemorph_core.learning.training.start import starting_model
from server.conclude import conclude
from server.federate import Federation
from server.keeper import RoundKeeper
from server.presence import Presence
from server.round import Round
from server.runs import RunDirectory
from server.runstate import choose_run, reason, tell_starter
from server.scoring import PublicFaces
from server.spending import Spending, log_told
from server.state import ServerState

log = logging.getLogger("flwr")
APP = Path(__file__).resolve().parent.parent

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train the run that the config names to its last round, and publish its model."""
    settings = {name: str(value) for name, value in context.run_config.items()}
    try:
        config = load_run_config(APP / settings["config"], split_overrides(settings["overrides"]))
        path = Path(settings["run-dir"]) if settings["run-dir"] else choose_run(runs(), config)
        with RunDirectory.held(path, config) as run:
            simulated = isinstance(grid, InMemoryGrid)  # of Flower's simulation engine alone
            if run.state.round < config.federation.rounds:
                train(grid, run, simulated=simulated)
            conclude(run, simulated=simulated)
            log.info("the run is complete: %s", run.path.resolve())
    except BaseException as error:
        tell_starter(error)
        if isinstance(error, FaceMorphError):
            log.error("error: %s", reason(error))
        raise


def train(grid: Grid, run: RunDirectory, *, simulated: bool) -> None:
    """All rounds that are still to do."""
    config, settings = run.config, run.config.federation
    if config.privacy is not None and config.privacy.scoring is None:
        settings = settings.model_copy(update={"evaluate_every": 0})  # sites would refuse
    federation = Federation(
        settings,
        Presence(grid, settings, simulated=simulated),
        starting_state(run, settings),
        run_id=run.state.id,
        handshake=Handshake.here(config, APP).as_strings(),
        trained=run.state.round > 0 and not run.untrained,
        folder=run.path,
        spending=Spending.of(run.path, config, simulated=simulated),
    )
    keeper = RoundKeeper(run, PublicFaces.of(config, simulated=simulated))
    try:
        if run.state.round == 0:
            keeper.keep(Round(0), federation.state)
        federation.run(range(run.state.round + 1, settings.rounds + 1), keeper.keep)
    finally:
        if config.privacy is not None:
            log_told(run.path)


def starting_state(run: RunDirectory, settings: FederationConfig) -> ServerState:
    """What the next round begins with: fresh weights, or what the last one left on the disk.

    Raises:
        FederationError: that is damaged, with the way back.
    """
    expected = signature(shared_weights(build_model(run.config.model)))
    released, memory = run.latest()
    if not released:
        fresh = shared_weights(starting_model(run.config))
        return ServerState(settings, expected, {n: v.numpy() for n, v in fresh.items()})
    if problem := weights_problem(released, expected):
        raise run.checkpoints.unusable(run.state.round, f"is damaged: {problem}")
    return ServerState.restored(settings, expected, released, memory)


def runs() -> Path:
    """Where runs are kept: ``$FACEMORPH_RUNS``, or ``runs`` in the working directory."""
    return Path(os.environ.get("FACEMORPH_RUNS", "runs"))
