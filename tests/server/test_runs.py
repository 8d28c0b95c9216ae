from __future__ import annotations

import json

import numpy as np
import pytest

from facemorph_core.config import RunConfig
from facemorph_core.errors import FederationError, OutputError
from facemorph_core.rundir import read_metrics
from server.runs import RunDirectory, choose_run, read_state

CONFIG = RunConfig(name="test", federation={"rounds": 5, "keep_checkpoints": 2})
WEIGHTS = {"encoder.a": np.arange(3, dtype=np.float32)}


def advance(path, config=CONFIG, *, rounds=1):
    with RunDirectory.held(path, config) as run:
        for _ in range(rounds):
            number = run.state.round + 1
            run.record({"round": number})
            run.checkpoint(number, {"encoder.a": WEIGHTS["encoder.a"] + number}, {})


def test_a_run_goes_on_where_its_last_checkpoint_is(tmp_path):
    advance(tmp_path / "run", rounds=2)
    with RunDirectory.held(tmp_path / "run", CONFIG) as run:
        weights, moments = run.latest()
        assert run.state.round == 2
        np.testing.assert_array_equal(weights["encoder.a"], [2, 3, 4])
        assert moments == {}


def test_the_id_of_a_run_outlives_its_process(tmp_path):
    advance(tmp_path / "run")
    first = read_state(tmp_path / "run").id
    advance(tmp_path / "run")
    assert read_state(tmp_path / "run").id == first


def test_figures_without_a_checkpoint_are_forgotten(tmp_path):
    advance(tmp_path / "run", rounds=2)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3}\n{"round": 4, "psn')  # killed here
    advance(tmp_path / "run", rounds=0)
    assert [entry["round"] for entry in read_metrics(tmp_path / "run")] == [1, 2]


def test_figures_before_the_first_round_come_once(tmp_path):
    for _ in range(2):  # killed in the first round, and started again
        with RunDirectory.held(tmp_path / "run", CONFIG) as run:
            run.record({"round": 0})
    assert [entry["round"] for entry in read_metrics(tmp_path / "run")] == [0]


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    advance(tmp_path / "run", rounds=4)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["round-0003.safetensors", "round-0004.safetensors"]


def test_one_process_at_a_time_holds_a_run(tmp_path):
    held = RunDirectory.held(tmp_path / "run", CONFIG)
    with held, pytest.raises(FederationError, match="in use by another run"):
        advance(tmp_path / "run")


def test_a_failure_is_kept_with_its_hint(tmp_path):
    with pytest.raises(OutputError), RunDirectory.held(tmp_path / "run", CONFIG):
        raise OutputError("the disk is full", hint="make room")
    state = read_state(tmp_path / "run")
    assert (state.status, state.error) == ("failed", "the disk is full\n hint: make room")


def test_a_damaged_state_is_an_error_that_helps(tmp_path):
    advance(tmp_path / "run")
    (tmp_path / "run" / "state.json").write_text('{"id": ')
    with pytest.raises(FederationError, match="is damaged"):
        read_state(tmp_path / "run")


def test_a_state_of_another_version_is_refused(tmp_path):
    advance(tmp_path / "run")
    file = tmp_path / "run" / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format_version": 99}))
    with pytest.raises(FederationError, match="has format 99, this version reads 1"):
        read_state(tmp_path / "run")


def test_another_config_gets_a_folder_of_its_own(tmp_path):
    advance(choose_run(tmp_path, CONFIG))
    other = CONFIG.model_copy(update={"seed": 1})
    assert choose_run(tmp_path, CONFIG) == tmp_path / "test"
    assert choose_run(tmp_path, other) == tmp_path / "test-2"


def test_resume_never_starts_anew_and_must_refuses_to(tmp_path):
    never, must = (CONFIG.model_copy(update={"resume": r}) for r in ("never", "must"))
    with pytest.raises(FederationError, match="there is no run of this config"):
        choose_run(tmp_path, must)
    advance(choose_run(tmp_path, CONFIG))
    assert choose_run(tmp_path, never) == tmp_path / "test-2"
    assert choose_run(tmp_path, must) == tmp_path / "test"


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "thesis.txt").write_text("important")
    assert choose_run(tmp_path, CONFIG) == tmp_path / "test-2"


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    advance(tmp_path / "run")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facemorph_core.output._sync", full)
    with (
        pytest.raises(OutputError, match="disk is full"),
        RunDirectory.held(tmp_path / "run", CONFIG),
    ):
        pass
    monkeypatch.undo()
    with RunDirectory.held(tmp_path / "run", CONFIG) as run:
        assert run.state.round == 1
        np.testing.assert_array_equal(run.latest()[0]["encoder.a"], [1, 2, 3])
