"""What holds of every kind of run on the disk, federated or central."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from facemorph_core.config import RunConfig, digest, dump_run_config, load_run_config
from facemorph_core.config.runs import HeldRun
from facemorph_core.disk.run_folder import held_alone
from facemorph_core.errors import FaceMorphError, FederationError, OutputError
from facemorph_core.learning.training.central_run import CentralRun
from facemorph_core.learning.training.trainer import Tally
from server.runs import RunDirectory

CONFIG = RunConfig(name="test", federation={"rounds": 3})
OTHER = CONFIG.model_copy(update={"seed": 1})
PATIENT = CONFIG.model_copy(
    update={"evaluation": CONFIG.evaluation.model_copy(update={"every": 5})}
)


def resuming(how: str, config: RunConfig = CONFIG) -> RunConfig:
    return config.model_copy(update={"resume": how})


@dataclass(frozen=True)
class Kind:
    name: str
    held: type[HeldRun[Any]]
    work: Callable[[Any], None]
    error: type[FaceMorphError]

    def folder(self, root: Path, number: int = 1) -> Path:
        return root / (self.name if number == 1 else f"{self.name}-{number}")

    def choose(self, root: Path, config: RunConfig = CONFIG) -> Path:
        return self.held.runs.choose(root, config)

    def read(self, path: Path) -> Any:
        return self.held.runs.read(path)

    def work_in(self, path: Path, config: RunConfig = CONFIG, *, ends: str = "") -> Path:
        """A round or an epoch, and how it ends."""
        try:
            with self.held.held(path, config) as run:
                self.work(run)
                if ends == "failed":
                    raise FederationError("too few sites", hint="start more")
                if ends == "completed":
                    run.complete()
        except FederationError:
            if not ends:
                raise
        return path


def a_round(run: RunDirectory) -> None:
    number = run.state.round + 1
    run.record({"round": number})
    run.checkpoint(number, {"encoder.a": np.full(3, number, np.float32)}, {})


def an_epoch(run: CentralRun) -> None:
    line, weights = {"epoch": run.state.epoch + 1}, {"encoder.a": torch.zeros(3)}
    run.append(line)
    run.save_epoch(weights, weights, line)


KINDS = {
    "federated": Kind("test", RunDirectory, a_round, FederationError),
    "central": Kind("test-central", CentralRun, an_epoch, OutputError),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


# --- which folder ----------------------------------------------------------------------------


def nothing(kind: Kind, root: Path) -> None:
    pass


def killed(kind: Kind, root: Path) -> None:
    path = kind.work_in(kind.folder(root))
    assert kind.read(path).status == "running"


def failed(kind: Kind, root: Path) -> None:
    kind.work_in(kind.folder(root), ends="failed")


def complete(kind: Kind, root: Path) -> None:
    kind.work_in(kind.folder(root), ends="completed")


def another(kind: Kind, root: Path) -> None:
    kind.work_in(kind.folder(root), OTHER)


def ours_behind_another(kind: Kind, root: Path) -> None:
    another(kind, root)
    kind.work_in(kind.folder(root, 2))


def torn(kind: Kind, root: Path) -> None:
    killed(kind, root)
    (kind.folder(root) / "state.json").write_text('{"config_dig')


def a_run_of_the_other_kind(kind: Kind, root: Path) -> None:
    (other,) = (each for each in KINDS.values() if each is not kind)
    other.work_in(kind.folder(root))


def a_thesis(kind: Kind, root: Path) -> None:
    kind.folder(root).mkdir()
    (kind.folder(root) / "thesis.txt").write_text("important")


def a_file(kind: Kind, root: Path) -> None:
    kind.folder(root).write_text("important")


def a_lock_alone(kind: Kind, root: Path) -> None:
    """Of a process that was killed before it wrote anything."""
    with held_alone(kind.folder(root), other="run", hint=""):
        pass


@pytest.mark.parametrize(
    ("there", "auto", "never", "must"),
    [
        (nothing, 1, 1, None),
        (killed, 1, 2, 1),
        (failed, 1, 2, 1),
        (complete, 1, 2, 1),
        (another, 2, 2, None),
        (ours_behind_another, 2, 3, 2),
        (torn, 2, 2, None),
        (a_run_of_the_other_kind, 2, 2, None),
        (a_thesis, 2, 2, None),
        (a_file, 2, 2, None),
        (a_lock_alone, 1, 1, None),
    ],
)
def test_what_is_there_and_resume_decide_which_folder_a_config_takes(
    tmp_path, kind, there, auto, never, must
):
    there(kind, tmp_path)
    before = contents(tmp_path)
    assert kind.choose(tmp_path, resuming("auto")) == kind.folder(tmp_path, auto)
    assert kind.choose(tmp_path, resuming("never")) == kind.folder(tmp_path, never)
    if must is None:
        with pytest.raises(kind.error, match="run of this config under"):
            kind.choose(tmp_path, resuming("must"))
    else:
        assert kind.choose(tmp_path, resuming("must")) == kind.folder(tmp_path, must)
    assert contents(tmp_path) == before


def test_what_is_passed_by_is_said_with_what_to_do(tmp_path, kind, caplog):
    torn(kind, tmp_path)
    kind.choose(tmp_path, resuming("never"))
    assert not caplog.text
    kind.choose(tmp_path)
    assert "is passed by" in caplog.text
    assert "move the run directory away and start anew" in caplog.text


# --- what a named folder is good for ---------------------------------------------------------


def test_a_run_goes_on_where_it_stands_however_it_stopped(tmp_path, kind):
    kind.work_in(tmp_path / "run")
    kind.work_in(tmp_path / "run", ends="failed")
    assert kind.read(tmp_path / "run").error == "too few sites\n hint: start more"
    kind.work_in(tmp_path / "run", resuming("must"))
    state = kind.read(tmp_path / "run")
    assert (state.done, state.status, state.error) == (3, "running", "")


@pytest.mark.parametrize(
    ("there", "config", "words"),
    [
        (killed, resuming("never"), "and resume is never"),
        (nothing, resuming("must"), "run of this config under"),
        (another, CONFIG, "holds a run of another config: seed is 1 there and 0 here"),
        (torn, CONFIG, r"state\.json is damaged"),
        (a_run_of_the_other_kind, CONFIG, "is not a run of"),
    ],
)
def test_what_is_refused_is_left_as_it_was(tmp_path, kind, there, config, words):
    there(kind, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(kind.error, match=words) as caught:
        kind.work_in(kind.folder(tmp_path), config)
    assert caught.value.hint
    assert {p: c for p, c in contents(tmp_path).items() if p.name != ".lock"} == {
        p: c for p, c in before.items() if p.name != ".lock"
    }


def test_how_a_run_is_run_may_change_and_is_told(tmp_path, kind, caplog):
    kind.work_in(kind.folder(tmp_path))
    assert kind.choose(tmp_path, PATIENT) == kind.folder(tmp_path)
    kind.work_in(kind.folder(tmp_path), PATIENT)
    assert "goes on with evaluation.every 1 -> 5" in caplog.text
    assert load_run_config(kind.folder(tmp_path) / "config.yaml") == PATIENT
    assert kind.read(kind.folder(tmp_path)).config_digest == digest(PATIENT)


def test_a_run_that_trained_nothing_begins_anew_with_a_mended_config(tmp_path, kind):
    with pytest.raises(ValueError, match="no photos"), kind.held.held(tmp_path, OTHER):
        raise ValueError("no photos")
    assert kind.read(tmp_path).error == "ValueError: no photos"
    kind.work_in(tmp_path)
    assert load_run_config(tmp_path / "config.yaml") == CONFIG
    assert kind.read(tmp_path).config_digest == digest(CONFIG)


def test_a_complete_run_stays_as_it_is_whatever_is_asked_and_fails(tmp_path, kind, caplog):
    complete(kind, tmp_path)
    before = contents(tmp_path)
    with kind.held.held(kind.folder(tmp_path), PATIENT) as run:
        assert run.config == CONFIG
    with pytest.raises(ValueError, match="no page"), kind.held.held(kind.folder(tmp_path), CONFIG):
        raise ValueError("no page")
    assert "evaluation.every is 1 there and 5 here" in caplog.text
    assert contents(tmp_path) == before


def test_checkpoints_without_a_state_are_not_begun_over(tmp_path, kind):
    kind.work_in(tmp_path)
    (tmp_path / "state.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(kind.error, match=r"holds checkpoints and no state\.json"):
        kind.work_in(tmp_path)
    assert contents(tmp_path) == before


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("too large")])
def test_whatever_stops_a_run_is_noted_and_goes_on_its_way(tmp_path, kind, error):
    with pytest.raises(type(error)), kind.held.held(tmp_path, CONFIG):
        raise error
    assert kind.read(tmp_path).error.startswith(type(error).__name__)


def test_a_disk_too_full_for_the_note_hides_no_error_and_harms_no_state(
    tmp_path, kind, monkeypatch
):
    kind.work_in(tmp_path)
    before = (tmp_path / "state.json").read_bytes()

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fail() -> None:
        monkeypatch.setattr("facemorph_core.disk.output._sync", full)
        raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause"), kind.held.held(tmp_path, CONFIG):
        fail()
    assert (tmp_path / "state.json").read_bytes() == before
    monkeypatch.undo()
    kind.work_in(tmp_path)
    assert kind.read(tmp_path).done == 2


def test_no_part_of_a_state_is_taken_for_one(tmp_path, kind):
    kind.work_in(tmp_path)
    file = tmp_path / "state.json"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(kind.error, match=r"state\.json is damaged") as caught:
            kind.read(tmp_path)
        assert str(tmp_path / "checkpoints") in caught.value.hint


@pytest.mark.parametrize(
    "content",
    ["[]", "3", "[" * 99_999, "\xff", '{"format_version": []}'],
    ids=["list", "number", "deep", "no text", "no number"],
)
def test_whatever_a_state_holds_is_refused_in_words(tmp_path, kind, content):
    (tmp_path / "state.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(kind.error):
        kind.read(tmp_path)


def test_a_state_of_another_version_is_refused(tmp_path, kind):
    kind.work_in(tmp_path)
    values = json.loads((tmp_path / "state.json").read_text()) | {"format_version": 2}
    (tmp_path / "state.json").write_text(json.dumps(values))
    with pytest.raises(kind.error, match="has format 2, this version reads 1"):
        kind.read(tmp_path)


HOLDING = """
import sys, time
from pathlib import Path
from tests.server.test_kinds_of_run import CONFIG, KINDS
kind = KINDS[sys.argv[1]]
with kind.held.held(kind.choose(Path(sys.argv[2])), CONFIG) as run:
    kind.work(run)
    print("holds it", flush=True)
    time.sleep(600)
"""


def test_a_run_belongs_to_one_process_until_that_is_killed(tmp_path, kind):
    (name,) = (name for name, each in KINDS.items() if each is kind)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, name, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(root)},
        cwd=root,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holds it\n"
        assert kind.choose(tmp_path) == kind.folder(tmp_path)
        before = contents(tmp_path)
        with pytest.raises(OutputError, match="in use by another run") as caught:
            kind.work_in(kind.choose(tmp_path))
        assert "wait for it" in caught.value.hint
        assert contents(tmp_path) == before
        holder.send_signal(signal.SIGKILL)
    state = kind.read(kind.folder(tmp_path))
    assert (state.done, state.status) == (1, "running")
    kind.work_in(kind.choose(tmp_path))
    assert kind.read(kind.folder(tmp_path)).done == 2


# --- folders of earlier versions -------------------------------------------------------------

FEDERATED = """{
  "id": "4f7d0d20a836e18f",
  "config_digest": "7f98c3da7c6b06434b17121bc9c9c458907ab092c6fd35ca538c2f1b3c0baa7e",
  "started": "2026-11-27T11:10:29+00:00",
  "rounds": 3,
  "round": 2,
  "status": "failed",
  "error": "too few sites answered\\n hint: start more of them",
  "best_round": 1,
  "format_version": 1
}"""
CENTRAL = """{
 "config_digest": "7f98c3da7c6b06434b17121bc9c9c458907ab092c6fd35ca538c2f1b3c0baa7e",
 "epoch": 1,
 "step": 2,
 "trainer": "trainer-1-2.safetensors",
 "images": 10,
 "sums": {
  "loss": 1.25,
  "l1": 0.5
 },
 "seconds": 3.5,
 "best_epoch": 1,
 "best_psnr": 21.5,
 "status": "running",
 "error": "",
 "kind": "central",
 "format_version": 1
}"""


def earlier(path: Path, state: str, *checkpoints: str) -> dict[str, Any]:
    """A folder that version 0.1 left before the two kinds shared their laws."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "state.json").write_text(state)
    (path / "config.yaml").write_text(dump_run_config(CONFIG))
    for name in checkpoints:
        save_file({"encoder.a": np.arange(3, dtype=np.float32)}, path / "checkpoints" / name)
    return json.loads(state)


def test_a_federated_run_of_an_earlier_version_goes_on_and_reads_as_before(tmp_path):
    path = tmp_path / "test"
    there = earlier(path, FEDERATED, "round-0001.safetensors", "round-0002.safetensors")
    lines = '{"round": 1, "server": {"psnr": 19.0}}\n{"round": 2, "server": {"psnr": 18.0}}\n'
    (path / "metrics.jsonl").write_text(lines)
    assert asdict(KINDS["federated"].read(path)) == there
    with RunDirectory.held(KINDS["federated"].choose(tmp_path), CONFIG) as run:
        np.testing.assert_array_equal(run.latest()[0]["encoder.a"], [0, 1, 2])
        a_round(run)
        run.complete()
    now = json.loads((path / "state.json").read_text())
    expected = {"round": 3, "status": "completed", "error": "", "config_digest": digest(CONFIG)}
    assert now == there | expected


def test_a_central_run_of_an_earlier_version_goes_on_and_reads_as_before(tmp_path):
    path = tmp_path / "test-central"
    there = earlier(path, CENTRAL, "epoch-0001.safetensors", "trainer-1-2.safetensors")
    (path / "metrics.jsonl").write_text('{"epoch": 1, "psnr": 21.5}\n{"epoch": 2}\n')
    assert asdict(KINDS["central"].read(path)) == there
    with CentralRun.held(KINDS["central"].choose(tmp_path), CONFIG) as run:
        assert run.trainer_tensors()["encoder.a"].tolist() == [0, 1, 2]
        weights = {"encoder.a": torch.zeros(3)}
        run.save_within_epoch(weights, 3, Tally(15, {"loss": 2.0}), 4.5)
        run.complete()
    now = json.loads((path / "state.json").read_text())
    moved = {"step": 3, "trainer": "trainer-1-3.safetensors", "images": 15}
    sums = {"sums": {"loss": 2.0}, "seconds": 4.5}
    ended = {"status": "completed", "config_digest": digest(CONFIG)}
    assert now == there | moved | sums | ended
    assert (path / "metrics.jsonl").read_text().count("epoch") == 1
