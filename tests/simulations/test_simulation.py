"""A real `flwr run` on Ray: killed in the middle, resumed, with nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from facemorph_core.bundle.read import open_bundle
from facemorph_core.config import load_run_config
from facemorph_core.config.load import split_overrides
from facemorph_core.disk.records import read_metrics
from facemorph_core.errors import ConfigError, FederationError, ModelError, OutputError
from server.runs import RunDirectory
from server.runstate import read_state
from simulations import bundling, run
from simulations.activation import extend_activation, settings
from simulations.run import APP, flower_environment, simulate, with_absolute_paths
from tests.federation.local_grid import tiny_shard
from tests.proxies import Proxy, proxy

TINY = [
    *("model.image_size=32", "model.width=8", "model.latent_dim=32"),
    *("training.batch_size=4", "training.precision=float32", "federation.local_epochs=1"),
    *("federation.sites=2", "evaluation.samples=4", "data.source=shard"),
]


@pytest.fixture
def leading_out() -> Iterator[Proxy]:
    with proxy() as listening:
        yield listening


def family(mark: str) -> list[psutil.Process]:
    """Processes whose environment names ``mark``."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ().get("FACEMORPH_TEST_MARK", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found


def vanished(mark: str, *, seconds: float) -> list[psutil.Process]:
    """What is still there after waiting."""
    deadline = time.monotonic() + seconds
    while (left := family(mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a minute on a quiet machine, five on a busy one
def test_a_simulation_that_is_killed_or_ended_resumes_and_leaves_no_process(
    tmp_path, short_folder, leading_out
):
    """On a machine whose proxy leads out of it, and is asked for nothing."""
    shard = tiny_shard(tmp_path / "shard", count=24)
    root, mark = tmp_path / "runs", str(tmp_path)
    environment = os.environ | leading_out.environment
    environment |= {
        "FACEMORPH_CACHE": str(tmp_path / "cache"),
        "FACEMORPH_TEST_MARK": mark,
        "TMPDIR": str(short_folder),  # the guardian is killed too, and leaves things there
    }
    words = [f"--set={item}" for item in [*TINY, f"data.path={shard.path}", "federation.rounds=8"]]
    command = [
        *(sys.executable, "-m", "simulations", "run", "configs/default.yaml"),
        *("--runs", str(root), "--cpus", "2", *words),
    ]
    folder = root / "default"

    def past_round(number: int) -> subprocess.Popen[bytes]:
        """The command, once it has got that far."""
        begun = subprocess.Popen(command, cwd=APP, env=environment, stderr=subprocess.DEVNULL)
        while (state := read_state(folder)) is None or state.round < number:
            assert begun.poll() is None, (folder / ".flower.log").read_text()[-3000:]
            time.sleep(0.1)
        return begun

    first = past_round(1)
    for process in family(mark):  # as a power cut does
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    first.wait()
    assert not vanished(mark, seconds=120)

    second = past_round(read_state(folder).round + 1)
    second.terminate()  # as the end of a session does
    second.wait()
    assert not vanished(mark, seconds=120)
    assert read_state(folder).round < 8

    again = subprocess.run(
        command, cwd=APP, env=environment, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert Path(again.stdout.strip()) == folder
    assert not vanished(mark, seconds=120)
    assert [entry["round"] for entry in read_metrics(folder)] == list(range(9))
    assert read_state(folder).status == "completed"
    assert open_bundle(folder / "model.facemorph").manifest.training["rounds"] == 8
    assert (folder / "partition.png").exists()
    assert leading_out.asked == []


@pytest.mark.slow
def test_a_run_that_fails_says_why_and_exits_with_its_code(tmp_path):
    shard = tiny_shard(tmp_path / "shard", count=24)
    overrides = [
        *(*TINY, f"data.path={shard.path}", "evaluation.faces=shard"),
        f"evaluation.shard={tmp_path / 'nowhere'}",
    ]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "simulations", "run", "configs/default.yaml"),
            *("--runs", str(tmp_path / "runs"), "--cpus", "2"),
            *(f"--set={item}" for item in overrides),
        ],
        cwd=APP,
        env=os.environ
        | Proxy("http://127.0.0.1:9").environment  # where nobody listens
        | {"FACEMORPH_CACHE": str(tmp_path / "cache"), "ALL_PROXY": "socks5://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == FederationError.exit_code
    assert f"{tmp_path / 'nowhere'} is not a shard" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("rounds_of_tries", "survives"), [((2, 0, 3), True), ((2, 0, 0), False)])
def test_a_run_that_flower_gives_up_is_tried_again_while_tries_bring_rounds(
    rounds_of_tries: tuple[int, ...], survives: bool, tmp_path, monkeypatch
):
    """As after a sleep of the machine: Flower missed heartbeats, the checkpoints are there."""
    shard = tiny_shard(tmp_path / "shard", count=24)
    tries = iter(rounds_of_tries)

    def follow(run_id, config, path, *rest) -> None:
        made = next(tries)
        with (path / "metrics.jsonl").open("a") as metrics:
            metrics.writelines(f'{{"round": {n}}}\n' for n in range(made))
        if made < 3:
            raise run._GivenUp("Flower ended the run (finished:failed)")

    monkeypatch.setattr(run, "_private_superlink", lambda path: contextlib.nullcontext(("", {})))
    monkeypatch.setattr(run, "_submit", lambda *rest: "1")
    monkeypatch.setattr(run, "_follow", follow)
    overrides = [*TINY, f"data.path={shard.path}"]
    expected = contextlib.nullcontext() if survives else pytest.raises(FederationError)
    with expected:
        simulate(APP / "configs" / "default.yaml", overrides, root=tmp_path / "runs")
    assert next(tries, None) is None


def test_a_model_of_another_size_than_the_faces_is_refused_before_anything_starts(tmp_path):
    shard = tiny_shard(tmp_path / "shard", size=32)
    overrides = [*TINY, f"data.path={shard.path}", "model.image_size=64"]
    with pytest.raises(ModelError, match="holds faces of 32 px, the model wants 64 px"):
        simulate(APP / "configs/default.yaml", overrides, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_config_outside_the_app_is_refused(tmp_path):
    tiny_shard(tmp_path / "shard", count=24)
    config = tmp_path / "mine.yaml"
    config.write_text("name: mine\n")
    with pytest.raises(ConfigError, match="so that it travels"):
        simulate(config, [*TINY, f"data.path={tmp_path / 'shard'}"], root=tmp_path / "runs")


@pytest.fixture
def app_of_its_own(tmp_path, monkeypatch):
    """A copy of what Flower bundles."""
    app = tmp_path / "app"
    for name in ("client", "server", "configs"):
        shutil.copytree(APP / name, app / name)
    for name in ("pyproject.toml", ".gitignore"):
        shutil.copy(APP / name, app / name)
    monkeypatch.setattr(bundling, "APP", app)
    return app


@pytest.mark.parametrize(
    ("name", "travels"),
    [
        ("configs/mine.yaml", True),
        ("configs/of/mine.yml", True),
        ("configs/mine.conf", False),
        ("configs/data/mine.yaml", False),  # .gitignore names data/
        ("runs/first/config.yaml", False),
        ("mine.yaml", False),
    ],
)
def test_a_config_that_would_not_travel_is_refused_before_anything_starts(
    name, travels, app_of_its_own, tmp_path, monkeypatch
):
    def submit(*_) -> str:
        raise FederationError("submitted")

    monkeypatch.setattr(run, "_private_superlink", lambda path: contextlib.nullcontext(("", {})))
    monkeypatch.setattr(run, "_submit", submit)
    tiny_shard(tmp_path / "shard", count=24)
    config = app_of_its_own / name
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("name: mine\n")
    overrides = [*TINY, f"data.path={tmp_path / 'shard'}"]
    expected = (FederationError, "submitted") if travels else (ConfigError, "leaves this file out")
    with pytest.raises(expected[0], match=expected[1]):
        simulate(config, overrides, root=tmp_path / "runs")
    assert (tmp_path / "runs").exists() == travels


def test_the_files_of_the_app_travel_and_those_of_the_coordinator_do_not():
    there = bundling.bundled()
    assert {"server/app.py", "server/runs.py", "client/app.py", "configs/default.yaml"} <= there
    assert not {name for name in there if name.startswith("server/coordinator")}


def test_why_the_app_failed_before_it_had_a_run_directory_is_told_at_once(tmp_path):
    config = load_run_config(APP / "configs" / "default.yaml")
    environment = flower_environment(tmp_path)
    Path(environment["FACEMORPH_REASON_FILE"]).write_text("the run is held\n hint: wait")
    with pytest.raises(FederationError, match="the run is held") as caught:
        run._follow("1", config, tmp_path, tmp_path, environment, lambda _: None)
    assert caught.value.hint == "wait"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("", ""),
        ("INFO : all is well\n", ""),
        ("INFO : x\nERROR : error: the disk is full\n hint: make room\n", "the disk is full"),
        (
            "Traceback (most recent call last):\n  in\nModuleNotFoundError: No module named 'x'\n",
            "ModuleNotFoundError: No module named 'x'",
        ),
    ],
)
def test_what_flower_kept_of_an_error_is_found(printed, said):
    assert run._error_in(printed) == said


@pytest.mark.parametrize("place", ["the folder of runs is a file", "the run is a file"])
def test_a_file_in_the_way_of_a_run_is_an_error_that_helps(place, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_private_superlink", lambda path: pytest.fail("started"))
    tiny_shard(tmp_path / "shard", count=24)
    root = tmp_path / "runs"
    root.write_text("important")
    with pytest.raises(OutputError, match="cannot be written"):
        simulate(
            APP / "configs" / "default.yaml",
            [*TINY, f"data.path={tmp_path / 'shard'}"],
            root=root if place.startswith("the folder") else root / "deeper",
        )


def test_must_makes_a_complete_run_longer_and_auto_does_not(tmp_path, monkeypatch):
    shard, root, asked = tiny_shard(tmp_path / "shard", count=24), tmp_path / "runs", []

    def follow(run_id, config, path, *rest) -> None:
        asked.append((path.name, read_state(path).status, read_state(path).round))
        with RunDirectory.held(path, config) as held:
            for number in range(held.state.round + 1, config.federation.rounds + 1):
                held.record({"round": number})
                held.checkpoint(number, {"a": np.zeros(1, np.float32)}, {})
            held.complete()

    monkeypatch.setattr(run, "_private_superlink", lambda path: contextlib.nullcontext(("", {})))
    monkeypatch.setattr(run, "_submit", lambda *rest: "1")
    monkeypatch.setattr(run, "_follow", follow)

    def train(*overrides: str) -> Path:
        words = [*TINY, f"data.path={shard.path}", *overrides]
        return simulate(APP / "configs" / "default.yaml", words, root=root)

    train("federation.rounds=2")
    train("federation.rounds=2")
    train("federation.rounds=3")
    train("federation.rounds=4", "resume=must")
    assert asked == [
        *(("default", "running", 0), ("default-2", "running", 0), ("default-2", "running", 3))
    ]
    assert read_state(root / "default-2").round == 4


def test_a_second_try_goes_on_in_the_folder_that_was_chosen_where_resume_is_never(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(run, "_flwr", lambda *rest: {"run-id": "1"})
    file = APP / "configs" / "default.yaml"
    overrides = ["resume=never"]
    run._submit(file, overrides, load_run_config(file), tmp_path, tmp_path, {}, 1)
    travelled = tomllib.loads((tmp_path / "run-config.toml").read_text("utf-8"))["overrides"]
    assert load_run_config(file, split_overrides(travelled)).resume == "auto"


def test_folders_are_named_as_they_are_seen_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = APP / "configs" / "default.yaml"
    overrides = ["data.source=shard", 'data.path="my shard: 1"']
    absolute = with_absolute_paths(load_run_config(config, overrides), overrides)
    assert load_run_config(config, absolute).data.path == str(tmp_path / "my shard: 1")


@pytest.mark.parametrize(
    ("said", "passed_on"),
    [("runs/first", "{here}/runs/first"), ("starter", "starter"), ("hub://a:1/m", "hub://a:1/m")],
)
def test_a_start_on_this_disk_is_named_as_it_is_seen_from_here(
    said, passed_on, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config, overrides = APP / "configs" / "default.yaml", [f"start={said}"]
    absolute = with_absolute_paths(load_run_config(config, overrides), overrides)
    assert load_run_config(config, absolute).start == passed_on.format(here=tmp_path)


def test_activation_is_extended_once_and_differs_between_checkouts(tmp_path):
    venv = tmp_path / "one" / ".venv"
    (venv / "bin").mkdir(parents=True)
    script = venv / "bin" / "activate"
    script.write_text("export VIRTUAL_ENV=x\n")
    extend_activation(venv)
    first = script.read_text()
    extend_activation(venv)
    assert script.read_text() == first
    assert first.startswith("export VIRTUAL_ENV=x\n")
    assert settings(tmp_path / "one") != settings(tmp_path / "two")
    shown = subprocess.run(
        ["bash", "-c", f". {script} && echo $FLWR_HOME"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == str(tmp_path / "one" / ".flwr")


FORKING = """
import subprocess, threading, time
import numpy as np

done, tall, wide = [], np.ones((16384, 107)), np.ones((107, 68))
def multiply():
    while True:
        done.append((tall @ wide).shape)
threading.Thread(target=multiply, daemon=True).start()
end = time.monotonic() + 2
while time.monotonic() < end:
    subprocess.run(["true"], preexec_fn=lambda: None)  # as Ray does: a fork, not a vfork
before = len(done)
end = time.monotonic() + 100
while len(done) == before:
    time.sleep(0.1)
    if time.monotonic() > end:
        raise SystemExit("a product never ended")
"""


def test_the_server_computes_on_while_ray_starts(tmp_path: Path) -> None:
    environment = flower_environment(tmp_path)
    subprocess.run([sys.executable, "-c", FORKING], env=environment, check=True)
