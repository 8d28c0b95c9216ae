from __future__ import annotations

import contextlib
import json
import logging
import resource
import signal
from dataclasses import asdict, replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from facemorph_core.bundle.find import find_model
from facemorph_core.config import RunConfig, dump_run_config, load_run_config
from facemorph_core.disk.records import read_metrics
from facemorph_core.errors import ConfigError, FederationError, ModelError, OutputError
from facemorph_core.learning.release.from_run import find_checkpoint
from server.checkpoints import Checkpoints
from server.runs import RunDirectory
from server.runstate import choose_run, read_state, write_state

CONFIG = RunConfig(name="test", federation={"rounds": 5, "keep_checkpoints": 2})
WEIGHTS = {"encoder.a": np.arange(3, dtype=np.float32)}


def changed(**federation):
    values = CONFIG.federation.model_dump() | federation
    return CONFIG.model_copy(update={"federation": type(CONFIG.federation)(**values)})


def advance(path, config=CONFIG, *, rounds=1, memory=None, **figures):
    with RunDirectory.held(path, config) as run:
        for _ in range(rounds):
            number = run.state.round + 1
            run.record({"round": number, **figures})
            run.checkpoint(number, {"encoder.a": WEIGHTS["encoder.a"] + number}, memory or {})


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


def test_the_newest_checkpoints_are_those_with_the_largest_numbers(tmp_path):
    """As text, 10000 comes before 9999."""
    path, config = tmp_path / "run", changed(rounds=20_000)
    advance(path, config)
    state = read_state(path)
    (path / "checkpoints" / "round-0001.safetensors").rename(
        path / "checkpoints" / "round-9998.safetensors"
    )
    write_state(path, replace(state, round=9998))
    for newest in (9999, 10_000, 10_001):
        advance(path, config)
        assert Checkpoints(path).rounds() == [newest - 1, newest]
    with RunDirectory.held(path, config) as run:
        np.testing.assert_array_equal(run.latest()[0]["encoder.a"], WEIGHTS["encoder.a"] + 10_001)


def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path):
    for psnr in (20.0, 25.0, float("nan"), 24.0, 23.0):
        advance(tmp_path / "run", server={"psnr": psnr})
    assert Checkpoints(tmp_path / "run").rounds() == [2, 4, 5]
    assert read_state(tmp_path / "run").best_round == 2


def test_figures_that_cannot_be_cost_the_best_round_nothing(tmp_path):
    for psnr, loss in ((1e12, -1e9), (20.0, 1.0), (25.0, 1.0), (24.0, 1.0), (10**400, 1.0)):
        advance(tmp_path / "run", sites={"psnr": psnr}, training={"loss": loss})
    assert Checkpoints(tmp_path / "run").rounds() == [3, 4, 5]
    assert read_state(tmp_path / "run").best_round == 3


def test_one_process_at_a_time_holds_a_run(tmp_path):
    held = RunDirectory.held(tmp_path / "run", CONFIG)
    with held, pytest.raises(OutputError, match="in use by another run"):
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

    monkeypatch.setattr("facemorph_core.disk.output._sync", full)
    with (
        pytest.raises(OutputError, match="disk is full"),
        RunDirectory.held(tmp_path / "run", CONFIG),
    ):
        pass
    monkeypatch.undo()
    with RunDirectory.held(tmp_path / "run", CONFIG) as run:
        assert run.state.round == 1
        np.testing.assert_array_equal(run.latest()[0]["encoder.a"], [1, 2, 3])


def never(config=CONFIG):
    return config.model_copy(update={"resume": "never"})


def test_a_named_folder_with_rounds_in_it_is_not_gone_on_with_where_resume_is_never(tmp_path):
    path = tmp_path / "run"
    with RunDirectory.held(path, never()):
        pass  # as `simulate` looks before Flower starts
    advance(path, never())
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(FederationError, match="stands at round 1, and resume is never"):
        advance(path, never())
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == files
    advance(path)


def test_an_unreadable_run_of_that_name_stands_in_nobody_s_way(tmp_path, caplog):
    for name in ("test", "test-2", "test-3"):
        advance(tmp_path / name, changed(quorum=3))
    (tmp_path / "test" / "state.json").write_text("{")
    (tmp_path / "test-2" / "config.yaml").write_text("name: [")
    file = tmp_path / "test-3" / "config.yaml"
    file.write_text(file.read_text().replace("rounds: 5", "rounds: 0"))
    assert choose_run(tmp_path, never()) == tmp_path / "test-4"
    assert not caplog.text
    assert choose_run(tmp_path, CONFIG) == tmp_path / "test-4"
    for name, words in {
        "test": "state.json is damaged",
        "test-2": "bring it back, or start with exactly the settings",
        "test-3": "this version refuses what the run was started with",
    }.items():
        [told] = [r.message for r in caplog.records if f"{tmp_path / name} is passed" in r.message]
        assert words in told


# --- what may change when a run goes on -------------------------------------------------------


def completed(path, config):
    advance(path, config, rounds=config.federation.rounds)
    with RunDirectory.held(path, config) as run:
        run.complete()


@pytest.mark.parametrize(
    "settings",
    [
        *({"quorum": 1}, {"deadline": 5.0}, {"join_deadline": 5.0}, {"max_failed_rounds": 9}),
        *({"keep_checkpoints": 0}, {"reply_memory": 9.0}, {"evaluate_every": 3}, {"rounds": 9}),
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_how_a_run_is_run_may_change_when_it_goes_on(tmp_path, settings, caplog):
    path = choose_run(tmp_path, CONFIG)
    advance(path)
    first, other = read_state(path), changed(**settings)
    assert choose_run(tmp_path, other) == path
    with caplog.at_level(logging.WARNING, "flwr"):
        advance(path, other)
    state = read_state(path)
    assert (state.id, state.round) == (first.id, 2)
    assert state.rounds == other.federation.rounds
    assert load_run_config(path / "config.yaml") == other
    ((name, value),) = settings.items()
    before = getattr(CONFIG.federation, name)
    assert f"federation.{name} {before} -> {value}" in caplog.text


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"seed": 7}, "seed is 0 there and 7 here"),
        ({"start": "starter"}, "start is '' there and starter here"),
        (
            {"privacy": {"noise_multiplier": 1.0}},
            "privacy.noise_multiplier is not set there and 1.0 here",
        ),
        ({"model": {"kind": "vae", "width": 48}}, "model.width is 64 there and 48 here"),
        ({"federation": {"rounds": 5, "fraction": 0.5}}, "fraction is 1.0 there and 0.5 here"),
        ({"federation": {"rounds": 5, "codec": "int8"}}, "codec is float32 there and int8 here"),
        ({"federation": {"rounds": 5, "max_norm_ratio": 2}}, "max_norm_ratio is 10.0 there"),
    ],
)
def test_what_a_round_does_may_not_change_and_is_named(tmp_path, update, words):
    path = choose_run(tmp_path, CONFIG)
    advance(path)
    other = RunConfig(**(CONFIG.model_dump() | update))
    with pytest.raises(FederationError, match="holds a run of another config") as caught:
        advance(path, other)
    assert words in str(caught.value)
    assert load_run_config(path / "config.yaml") == CONFIG
    assert choose_run(tmp_path, other) == tmp_path / "test-2"


def test_a_run_without_a_round_begins_anew_with_a_mended_config(tmp_path):
    """As after a path that was wrong: its hint says to name the right one."""
    path = tmp_path / "run"
    wrong = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(OutputError), RunDirectory.held(path, wrong):
        raise OutputError("nothing came of it")
    first = read_state(path)
    advance(path)
    assert read_state(path).id != first.id
    assert load_run_config(path / "config.yaml") == CONFIG


def test_a_complete_run_goes_on_to_more_rounds_where_it_is_named(tmp_path):
    path = tmp_path / "run"
    completed(path, changed(rounds=2))
    first = read_state(path)
    longer = changed(rounds=3)
    advance(path, longer)
    state = read_state(path)
    assert (state.id, state.rounds, state.round, state.status) == (first.id, 3, 3, "running")


def test_what_a_complete_run_has_left_is_told_by_its_round_when_it_is_made_longer(tmp_path):
    path = tmp_path / "run"
    completed(path, changed(rounds=2))
    for name in ("model.facemorph", "report.html"):
        (path / name).write_text("of round 2")
    advance(path, changed(rounds=4))
    for name in ("model-round-0002.facemorph", "report-round-0002.html"):
        assert (path / name).read_text() == "of round 2"
    assert not (path / "report.html").exists()
    with pytest.raises(ModelError, match=r"has no model\.facemorph yet"):
        find_model(path)
    (path / "model.facemorph").write_text("somebody's, of the middle")
    advance(path, changed(rounds=4), rounds=0)
    assert (path / "model.facemorph").exists()


def test_a_complete_run_that_cannot_be_made_longer_stays_complete(tmp_path):
    path, config = tmp_path / "run", changed(rounds=2)
    completed(path, config)
    (path / "checkpoints" / "round-0002.safetensors").write_bytes(b"cut")
    state = (path / "state.json").read_bytes()
    with pytest.raises(FederationError, match="the checkpoint of round 2 cannot be read"):
        advance(path, changed(rounds=3))
    assert (path / "state.json").read_bytes() == state
    with RunDirectory.held(path, config) as run:
        assert run.state.status == "completed"


def test_fewer_rounds_than_are_done_are_refused(tmp_path):
    path = tmp_path / "run"
    advance(path, rounds=3)
    with pytest.raises(FederationError, match="has done 3 rounds already") as caught:
        advance(path, changed(rounds=2))
    assert f"python -m server rollback {path}" in caught.value.hint
    advance(path, changed(rounds=3), rounds=0)  # to end it where it is
    assert read_state(path).rounds == 3


def test_a_complete_run_stays_as_it_is_whatever_else_is_asked_of_it(tmp_path, caplog):
    path, config = tmp_path / "run", changed(rounds=2)
    completed(path, config)
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with RunDirectory.held(path, changed(rounds=2, quorum=1)) as run:
        assert run.config == config
        assert run.state.status == "completed"
    assert "federation.quorum is 2 there and 1 here" in caplog.text
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == files


def test_a_sweep_over_rounds_makes_one_run_of_each(tmp_path):
    for rounds, name in ((2, "test"), (4, "test-2"), (3, "test-3")):
        completed(choose_run(tmp_path, changed(rounds=rounds)), changed(rounds=rounds))
        assert read_state(tmp_path / name).round == rounds
    for rounds, name in ((2, "test"), (4, "test-2"), (3, "test-3")):
        assert choose_run(tmp_path, changed(rounds=rounds)) == tmp_path / name


def test_an_interrupted_run_of_as_many_rounds_comes_before_one_of_others(tmp_path):
    advance(choose_run(tmp_path, changed(rounds=5)))
    never = changed(rounds=4).model_copy(update={"resume": "never"})
    advance(choose_run(tmp_path, never), never)
    assert choose_run(tmp_path, changed(rounds=4)) == tmp_path / "test-2"
    assert choose_run(tmp_path, changed(rounds=9)) == tmp_path / "test"


def test_must_makes_the_longest_complete_run_longer(tmp_path):
    for rounds in (2, 3):
        completed(choose_run(tmp_path, changed(rounds=rounds)), changed(rounds=rounds))
    must = {"resume": "must"}
    assert choose_run(tmp_path, changed(rounds=9).model_copy(update=must)).name == "test-2"
    with pytest.raises(FederationError, match="has done 2 rounds already"):
        choose_run(tmp_path, changed(rounds=1).model_copy(update=must))
    with pytest.raises(FederationError, match="there is no run of this config"):
        advance(tmp_path / "nothing", CONFIG.model_copy(update=must))


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    """Its state knows of no best round, and settings that came since have their defaults."""
    path = tmp_path / "run"
    advance(path)
    state = asdict(read_state(path))
    del state["best_round"]
    (path / "state.json").write_text(json.dumps(state | {"config_digest": "0" * 64}))
    old = [line for line in dump_run_config(CONFIG).splitlines() if "join_deadline" not in line]
    (path / "config.yaml").write_text("\n".join(old))
    advance(path)
    assert read_state(path).round == 2


# --- what goes wrong on the disk --------------------------------------------------------------


@pytest.mark.parametrize("harm", ["lost", "cut", "garbled", "its memory is cut"])
def test_a_checkpoint_that_cannot_be_read_says_how_to_go_back(tmp_path, harm):
    path = tmp_path / "run"
    advance(path, rounds=2)
    file = path / "checkpoints" / "round-0002.safetensors"
    content = file.read_bytes()
    match harm:
        case "lost":
            file.unlink()
        case "cut":
            file.write_bytes(content[:-5])
        case "garbled":
            file.write_bytes(b"\xff" * len(content))
        case "its memory is cut":
            file.with_name("optimiser-0002.safetensors").write_bytes(content[:-5])
    with pytest.raises(FederationError, match="the checkpoint of round 2 cannot be read") as caught:
        advance(path)
    assert caught.value.hint == f"go back to round 1: python -m server rollback {path} --to 1"
    assert "cannot be read" in read_state(path).error


def test_memory_that_is_lost_is_missed(tmp_path):
    path = tmp_path / "run"
    advance(path)
    advance(path, rounds=2, memory={"m_t.encoder.a": WEIGHTS["encoder.a"]})
    (path / "checkpoints" / "optimiser-0003.safetensors").unlink()
    assert [n for n in (1, 2, 3) if Checkpoints(path).whole(n)] == [2]
    with pytest.raises(FederationError, match="round 3 cannot be read") as caught:
        advance(path)
    assert caught.value.hint.endswith(f"rollback {path} --to 2")


def test_a_checkpoint_of_an_earlier_version_says_nothing_of_memory_and_loads(tmp_path):
    path = tmp_path / "run"
    advance(path)
    save_file(WEIGHTS, path / "checkpoints" / "round-0001.safetensors")
    assert Checkpoints(path).load(1)[1] == {}
    save_file(WEIGHTS, path / "checkpoints" / "optimiser-0001.safetensors")
    assert list(Checkpoints(path).load(1)[1]) == ["encoder.a"]


def test_a_round_that_a_kill_kept_from_counting_speaks_for_nothing(tmp_path):
    path = tmp_path / "run"
    advance(path, rounds=4)
    Checkpoints(path).save(5, {"encoder.a": WEIGHTS["encoder.a"] + 5}, WEIGHTS)  # killed here
    (path / "samples" / "round-0005.png").write_text("picture")
    advance(path, changed(rounds=4), rounds=0)
    assert find_checkpoint(path).number == 4
    assert Checkpoints(path).files(after=4) == []
    aside = sorted(each.name for each in (path / "rolled-back-1").rglob("*.*"))
    assert aside == ["optimiser-0005.safetensors", "round-0005.png", "round-0005.safetensors"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "\xff", '{"format_version": 1}', '{"round": "three"}']
)
def test_whatever_a_state_holds_is_read_or_is_damaged(tmp_path, content):
    (tmp_path / "state.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(FederationError, match=r"state\.json is damaged"):
        read_state(tmp_path)


def test_checkpoints_without_a_state_are_not_begun_over(tmp_path):
    advance(tmp_path / "run", rounds=2)
    (tmp_path / "run" / "state.json").unlink()
    with pytest.raises(FederationError, match=r"holds checkpoints and no state\.json"):
        advance(tmp_path / "run")
    assert Checkpoints(tmp_path / "run").rounds() == [1, 2]
    assert len(read_metrics(tmp_path / "run")) == 2


def test_a_damaged_config_is_mended_by_the_same_one_and_by_no_other(tmp_path):
    path = tmp_path / "run"
    advance(path)
    (path / "config.yaml").write_text("name: [")
    with pytest.raises(ConfigError, match="not YAML") as caught:
        advance(path, changed(quorum=1))
    assert "exactly the settings" in caught.value.hint
    advance(path)
    assert load_run_config(path / "config.yaml") == CONFIG


def test_lines_of_figures_that_are_none_are_left_out(tmp_path):
    advance(tmp_path / "run", rounds=2)
    with (tmp_path / "run" / "metrics.jsonl").open("ab") as file:
        file.write(
            b'3\n{"psnr": 1}\n{"round": true}\n'
            + b"[" * 99_999
            + b'\n\n{"round": "x"}\n\xff\xfe\n[]\n{"round": 3, "ps'
        )
    advance(tmp_path / "run", rounds=0)
    assert [entry["round"] for entry in read_metrics(tmp_path / "run")] == [1, 2]


def test_a_file_where_the_run_would_be_is_an_error_that_helps(tmp_path):
    (tmp_path / "run").write_text("important")
    with pytest.raises(OutputError, match="cannot be written"):
        advance(tmp_path / "run")
    (tmp_path / "test").write_text("important")
    assert choose_run(tmp_path, CONFIG) == tmp_path / "test-2"
    with pytest.raises(OutputError, match="cannot be written"):
        advance(choose_run(tmp_path / "test", CONFIG))


@contextlib.contextmanager
def files_of_at_most(size):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_disk_that_is_full_in_the_middle_of_a_round_costs_that_round_alone(tmp_path):
    path = tmp_path / "run"
    advance(path)
    with files_of_at_most(50), pytest.raises(OutputError, match="cannot be written"):
        advance(path)
    advance(path)
    assert read_state(path).round == 2
