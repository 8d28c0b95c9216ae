"""Back to an earlier round: the run stands there, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from facemorph_core.config import RunConfig
from facemorph_core.disk.records import read_metrics, read_rolled_back
from facemorph_core.errors import FaceMorphError, FederationError, OutputError
from server.__main__ import app
from server.coordinator.rollback import kept_rounds, rollback
from server.runs import RunDirectory
from server.runstate import read_state

CONFIG = RunConfig(name="test", federation={"rounds": 5, "keep_checkpoints": 0})
PSNR = (20.0, 25.0, 24.0, 15.0, 14.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose best round is the second of five."""
    train(tmp_path / "run")
    return tmp_path / "run"


def train(path: Path, *, mark: float = 0) -> None:
    with RunDirectory.held(path, CONFIG) as run:
        for number in range(run.state.round + 1, 6):
            run.record({"round": number, "server": {"psnr": PSNR[number - 1]}, "mark": mark})
            run.checkpoint(number, {"a": np.full(3, number + mark, np.float32)}, {})
            (path / "samples" / f"round-{number:04d}.png").write_text(f"{number} {mark}")
        (path / "model.facemorph").write_text(f"bundle {mark}")
        (path / "report.html").write_text("page")
        run.complete()


def everything(path: Path) -> list[bytes]:
    """All that rounds left, wherever it lies, and the lines of their figures."""
    lines = [line for file in path.glob("metrics*") for line in file.read_bytes().splitlines()]
    kinds = ("*.safetensors", "*.png", "*.facemorph", "*.html")
    return sorted(lines + [file.read_bytes() for kind in kinds for file in path.rglob(kind)])


def asked(*words: str) -> Result:
    return CliRunner().invoke(app, ["rollback", *words])


def test_the_run_stands_at_that_round_and_nothing_is_lost(run):
    before = everything(run)
    aside = rollback(run, to=2)
    state = read_state(run)
    assert (state.round, state.status, state.best_round) == (2, "running", 2)
    assert [entry["round"] for entry in read_metrics(run)] == [1, 2]
    assert [entry["round"] for entry in read_rolled_back(run)] == [3, 4, 5]
    assert sorted(f.name for f in aside.rglob("*.safetensors")) == [
        f"round-{number:04d}.safetensors" for number in (3, 4, 5)
    ]
    assert everything(run) == before
    with RunDirectory.held(run, CONFIG) as again:
        np.testing.assert_array_equal(again.latest()[0]["a"], [2, 2, 2])


def test_bundle_and_page_of_a_complete_run_are_made_anew(run):
    rollback(run, to=5)
    assert read_state(run).status == "running"
    assert not (run / "model.facemorph").exists()
    assert not (run / "report.html").exists()


def test_a_second_rollback_leaves_what_the_first_moved(run):
    rollback(run, to=2)
    train(run, mark=0.5)
    before = everything(run)
    first, second = run / "rolled-back-1", rollback(run, to=1)
    assert second != first
    assert everything(run) == before
    assert [(e["round"], e["mark"]) for e in read_rolled_back(run)] == [
        *((3, 0), (4, 0), (5, 0)),
        *((2, 0), (3, 0.5), (4, 0.5), (5, 0.5)),
    ]


class Killed(BaseException):
    """What SIGKILL looks like to the code that runs."""


@pytest.mark.parametrize("survived", range(13))
def test_a_rollback_that_was_killed_is_ended_by_a_second_one(run, monkeypatch, survived):
    before, done = everything(run), []

    def until_killed(name):
        real = getattr(sys.modules["server.coordinator.rollback"], name)

        def step(*args):
            if len(done) == survived:
                raise Killed
            done.append(name)
            return real(*args)

        monkeypatch.setattr(f"server.coordinator.rollback.{name}", step)

    for name in ("append_entry", "move", "write_state", "write_entries"):
        until_killed(name)
    with pytest.raises(Killed):
        rollback(run, to=2)
    monkeypatch.undo()
    rollback(run, to=2)
    assert read_state(run).round == 2
    assert [entry["round"] for entry in read_metrics(run)] == [1, 2]
    assert [entry["round"] for entry in read_rolled_back(run)] == [3, 4, 5]
    assert everything(run) == before


def test_a_round_without_a_checkpoint_is_refused_with_those_there_are(run):
    (run / "checkpoints" / "round-0003.safetensors").write_bytes(b"cut")
    before = everything(run)
    for number in (3, 9):
        with pytest.raises(FederationError, match=f"round {number} of .* no checkpoint") as caught:
            rollback(run, to=number)
        assert caught.value.hint == "there are: 1, 2, 4, 5"
    assert everything(run) == before


def test_a_run_that_a_process_holds_is_refused(run):
    rollback(run, to=4)
    refused = pytest.raises(OutputError, match="in use by another run")
    with RunDirectory.held(run, CONFIG), refused as caught:
        rollback(run, to=2)
    assert caught.value.hint == "end the run first"
    assert read_state(run).round == 4


def test_the_rounds_are_listed_with_their_scores_and_the_best(run):
    (run / "checkpoints" / "round-0004.safetensors").write_bytes(b"cut")
    assert asked(str(run)).output.splitlines() == [
        "round 1: PSNR at the server 20 dB",
        "round 2: PSNR at the server 25 dB, the best",
        "round 3: PSNR at the server 24 dB",
        "round 4: PSNR at the server 15 dB, cannot be read",
        "round 5: PSNR at the server 14 dB, the run stands here",
    ]
    assert [kept.round for kept in kept_rounds(run)] == [1, 2, 3, 4, 5]


def test_odd_lines_of_figures_judge_nothing_and_are_in_nobody_s_way(run):
    odd = ({"round": 4, "server": {"psnr": 10**400}}, {"round": [4]}, {"round": True})
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in odd)
    assert "round 4: no score" in asked(str(run)).output.splitlines()
    assert asked(str(run), "--to", "3").exit_code == 0
    assert [entry["round"] for entry in read_metrics(run)] == [1, 2, 3]
    assert [4] in [entry["round"] for entry in read_rolled_back(run)]


def test_a_lost_checkpoint_is_got_over_with_the_command_that_the_hint_names(run):
    (run / "checkpoints" / "round-0005.safetensors").unlink()
    (run / "state.json").write_text((run / "state.json").read_text().replace("completed", "failed"))
    with pytest.raises(FederationError) as caught:
        train(run)
    words = caught.value.hint.partition("python -m server rollback ")[2].split()
    assert asked(*words).exit_code == 0
    train(run)
    assert read_state(run).status == "completed"


@pytest.mark.parametrize("state", [None, "{", json.dumps({"kind": "central"})])
def test_what_is_no_run_is_an_error_and_stays_as_it_is(tmp_path, state):
    folder = tmp_path / "thing"
    if state is not None:
        folder.mkdir()
        (folder / "state.json").write_text(state)
    for words in ([str(folder)], [str(folder), "--to", "1"]):
        assert isinstance(asked(*words).exception, FaceMorphError)
    assert folder.exists() == (state is not None)


def test_the_command_says_where_the_later_rounds_are(run):
    done = subprocess.run(
        [sys.executable, "-m", "server", "rollback", str(run), "--to", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{run} stands at round 2; what came later is in {run}/rolled-back-1\n"
