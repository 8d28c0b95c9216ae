"""Simulations on machines that are not ours alone: clusters, batch jobs, odd folders.

Public reports:
    | Ray 7977, KubeRay 373: RAY_ADDRESS, as the pods and jobs of a cluster have it, makes every
      program that starts Ray join that cluster
    | Ray 28586, Flower 3463: of a batch job's few cores Ray sees the whole node
    | Flower 4138: "ActorPool is empty" where a client asks for more cores than there are
    | emacs-toml 38: an emoji as JSON escapes it is no TOML
    | Flower 2157 and 2758: workers that are killed for memory, and a run that does not say so
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from facemorph_core.config import load_run_config
from facemorph_core.errors import FederationError
from server.runstate import read_state
from simulations import machine, run
from simulations.machine import federation_settings, without_another_ray
from simulations.run import APP, with_absolute_paths
from tests.federation.local_grid import tiny_shard
from tests.simulations.test_simulation import TINY
from tests.starting import after

ODD = "Läufe 😀 #1"


def settings_for(sites: int, cpus: int, monkeypatch, *, cores: int) -> dict[str, str]:
    monkeypatch.setattr(machine, "available_cores", lambda: cores)
    return dict(item.split("=") for item in federation_settings(sites, cpus).split())


@pytest.mark.parametrize(
    ("sites", "cpus", "cores", "of_ray", "of_a_site"),
    [
        (4, 1, 2, 2, 1),  # a batch job of two cores
        (4, 1, 64, 4, 1),  # no process that no site would ever use
        (4, 8, 64, 32, 8),
        (4, 8, 2, 2, 2),
    ],
)
def test_ray_gets_the_cores_that_there_are_and_that_sites_use(
    sites, cpus, cores, of_ray, of_a_site, monkeypatch, caplog
):
    with caplog.at_level(logging.WARNING):
        told = settings_for(sites, cpus, monkeypatch, cores=cores)
    assert told["num-supernodes"] == str(sites)
    assert told["init-args-num-cpus"] == str(of_ray)
    assert told["client-resources-num-cpus"] == str(of_a_site)
    assert ("more than there are" in caplog.text) == (cpus > cores)


@pytest.mark.parametrize("cpus", ["0", "-1", "0.5"])
def test_a_share_of_a_core_that_flower_does_not_know_is_refused_at_once(cpus):
    done = subprocess.run(
        [sys.executable, "-m", "simulations", "run", "configs/default.yaml", "--cpus", cpus],
        cwd=APP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "'--cpus'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_that_the_environment_names_is_not_joined_and_tuning_stays():
    kept = {"RAY_memory_usage_threshold": "0.9", "RAY_TMPDIR": "/scratch", "PATH": "/bin"}
    named = dict.fromkeys(machine.OF_ANOTHER_RAY, "ray://head.example.org:10001")
    assert without_another_ray(kept | named) == kept


@pytest.mark.parametrize("folder", [ODD, "a b", "it's", 'say "so"', "back\\slash"])
def test_a_folder_of_any_name_arrives_as_it_is_called(folder, tmp_path):
    path = tmp_path / folder / "faces"
    config = load_run_config(APP / "configs" / "default.yaml", ["data.source=shard", "data.path=x"])
    config = config.model_copy(update={"data": config.data.model_copy(update={"path": str(path)})})
    (override,) = [o for o in with_absolute_paths(config, []) if o.startswith("data.path=")]
    travelled = tomllib.loads(f"overrides = {run._text(run._quoted(override))}")["overrides"]
    (arrived,) = shlex.split(travelled)
    assert yaml.safe_load(arrived.removeprefix("data.path=")) == str(path)


def test_an_error_names_the_file_with_what_the_run_printed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        run,
        "_called",
        lambda *_: subprocess.CompletedProcess([], 0, "killed due to memory pressure\n", ""),
    )
    refused = FederationError("0 usable replies", hint="mend the sites")
    with (
        pytest.raises(FederationError, match="0 usable replies") as told,
        run._told_where_it_printed("1", tmp_path, tmp_path, {}),
    ):
        raise refused
    assert told.value.hint == (
        f"mend the sites; what it printed is at the end of {tmp_path / '.flower.log'}"
    )
    assert "memory pressure" in (tmp_path / ".flower.log").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)  # it has one core, which others may be using
def test_a_simulation_in_an_odd_folder_of_a_batch_job_within_a_cluster(tmp_path):
    """All at once: the run is one, and each of these alone stopped it before."""
    there = tmp_path / ODD
    there.mkdir()
    shard = tiny_shard(there / "shard", count=24)
    overrides = [*TINY, f"data.path={json.dumps(str(shard.path), ensure_ascii=False)}"]
    one_core = {min(os.sched_getaffinity(0))} if hasattr(os, "sched_setaffinity") else None
    command = [
        *(sys.executable, "-m", "simulations", "run", "configs/default.yaml"),
        *("--runs", str(there / "runs"), "--cpus", "2"),
        *(f"--set={item}" for item in [*overrides, "federation.rounds=1"]),
    ]
    done = subprocess.run(
        after(f"import os; os.sched_setaffinity(0, {one_core})", command) if one_core else command,
        cwd=APP,
        env=os.environ | {"FACEMORPH_CACHE": str(tmp_path / "cache"), "RAY_ADDRESS": "127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_path = Path(done.stdout.strip())
    assert run_path == there / "runs" / "default"
    assert read_state(run_path).status == "completed"
    assert not one_core or "a site at work takes 1" in " ".join(done.stderr.split())
