"""The end of a run: its page and its model, made from what the rounds left on the disk."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict

from facemorph_core.bundle.find import RUN_BUNDLE
from facemorph_core.config.schema import DirichletPartition
from facemorph_core.disk.output import reported_output
from facemorph_core.disk.records import write_atomic
from facemorph_core.errors import FederationError
from facemorph_core.learning.release.from_run import bundle_run
from facemorph_core.learning.report import write_run_report
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.partition import site_view
from facemorph_core.shards.summary import draw_summary, summarise
from server.runs import RunDirectory

log = logging.getLogger("flwr")


def conclude(run: RunDirectory, *, simulated: bool) -> None:
    """Export the last round as a bundle, write the page, mark the run as complete.

    A run that is complete already is left as it is.

    Raises:
        FederationError: no round brought anything, so that there is no result.
    """
    bundle = run.path / RUN_BUNDLE
    if run.state.status == "completed" and bundle.exists():
        return
    if run.untrained:
        raise FederationError(
            f"none of the {run.state.round} rounds of {run.path} brought anything: there is no "
            "model to make of it",
            hint="mend or start the sites, raise federation.rounds, and start it again",
        )
    bundle_run(run.path, round=run.state.round, out=bundle)
    if simulated:
        describe_partition(run)
    write_run_report(run.path)
    run.complete()
    log.info("model: %s", bundle)
    best = run.best
    if best and best.round != run.state.round:
        log.info(
            "round %d was the best: %s; facemorph-core bundle %s --round %d makes a model of it",
            *(best.round, best, run.path, best.round),
        )


def describe_partition(run: RunDirectory) -> None:
    """Who owned which faces. Only a simulation can know."""
    config = run.config
    present = [entry.get("present") for entry in run.metrics()]
    sites = max([n for n in present if isinstance(n, int)], default=config.federation.sites)
    base = shard_for(config.data, seed=config.seed)
    views = [
        site_view(base, config.data, site=site, sites=sites, seed=config.seed)
        for site in range(sites)
    ]
    table = [asdict(summary) for summary in summarise(views)]
    write_atomic(run.path / "partition.json", json.dumps(table, indent=2).encode())
    partition = config.data.partition
    attribute = partition.attribute if isinstance(partition, DirichletPartition) else None
    picture = run.path / "partition.png"
    with reported_output(picture):
        draw_summary(views, attribute=attribute).save(picture)
