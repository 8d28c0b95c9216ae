"""The ServerApp: config, run directory, strategy, rounds, bundle.

It holds no photo of a site. Every round leaves a checkpoint, a line of figures and a picture,
so that a killed run goes on where it stopped.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid.inmemory_grid import InMemoryGrid

from facemorph_core.config import RunConfig, load_run_config
from facemorph_core.config.load import split_overrides
from facemorph_core.errors import FaceMorphError
from facemorph_core.learning.federated import Handshake, shared_weights, signature, weights_problem
from facemorph_core.learning.models import build_model
from facemorph_core.learning.training.start import starting_model
from server.arrivals import Arrivals
from server.choose import choose_run
from server.conclude import conclude
from server.rounds import RoundKeeper
from server.rule import merging_rule
from server.runs import RunDirectory
from server.runstate import reason, tell_starter
from server.scoring import PublicFaces
from server.spending import Spending, log_told
from server.strategy import GuardedStrategy, packed

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
    config, federation = run.config, run.config.federation
    if config.privacy is not None and config.privacy.scoring is None:
        federation = federation.model_copy(update={"evaluate_every": 0})  # sites would refuse
    strategy = GuardedStrategy(
        merging_rule(federation.strategy),
        federation,
        expected=signature(shared_weights(build_model(config.model))),
        simulated=simulated,
        first_round=run.state.round + 1,
        trained=run.state.round > 0 and not run.untrained,
        folder=run.path,
        spending=Spending.of(run.path, config, simulated=simulated),
    )
    released, memory = run.latest()
    if released and (problem := weights_problem(released, strategy.expected)):
        raise run.checkpoints.unusable(run.state.round, f"is damaged: {problem}")
    start = packed(strategy.restore(released, memory)) if released else fresh_weights(config)
    keeper = RoundKeeper(run, strategy, PublicFaces.of(config, simulated=simulated))
    try:
        strategy.start(
            Arrivals(grid, strategy.take).as_grid(),
            initial_arrays=start,
            num_rounds=federation.rounds - run.state.round,
            timeout=federation.deadline,
            train_config=request(run),
            evaluate_config=request(run),
            evaluate_fn=keeper.after_round,
        )
    finally:
        if config.privacy is not None:
            log_told(run.path)


def request(run: RunDirectory) -> ConfigRecord:
    """What every message to a site says beside the weights."""
    handshake = Handshake.here(run.config, APP / "client")
    return ConfigRecord({"run-id": run.state.id, **handshake.as_strings()})


def fresh_weights(config: RunConfig) -> ArrayRecord:
    """The global model before its first round."""
    return ArrayRecord(shared_weights(starting_model(config)))


def runs() -> Path:
    """Where runs are kept: ``$FACEMORPH_RUNS``, or ``runs`` in the working directory."""
    return Path(os.environ.get("FACEMORPH_RUNS", "runs"))
