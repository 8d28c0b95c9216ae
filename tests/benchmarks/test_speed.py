"""What the speed and federation benchmarks compare is comparable, and their reports say it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks.federation.report import charts, summaries, to_markdown
from benchmarks.federation.rows import BASE, CENTRAL, config_of, settings
from benchmarks.federation.run import PCA, Result, _kept
from benchmarks.speed import pace as pace_module
from benchmarks.speed.learners import entrants
from benchmarks.speed.memory import peaks, program_of
from benchmarks.speed.pace import Pace, Roof, ratios, roof
from benchmarks.speed.race import Finish, race
from benchmarks.speed.report import SpeedReport, to_json
from benchmarks.speed.report import to_markdown as speed_markdown
from benchmarks.speed.rounds import Crowd, RoundCost
from facemorph_core.alignment.frame import mean_shape
from facemorph_core.config.load import dump_run_config
from facemorph_core.learning.training import compute
from facemorph_core.learning.training.compute import Compute
from facemorph_core.metrics.bootstrap import Interval
from facemorph_core.shards.shard import IndexRow, write_shard

EXACT = Compute(torch.device("cpu"), bfloat16=False)


def pace(name: str, seconds: float) -> Pace:
    return Pace(name, 64, 10**6, seconds, (seconds, seconds), 0.01, 0.02, 2.0, 900.0)


@pytest.fixture
def emulated(monkeypatch):
    """A processor that has no bfloat16."""
    monkeypatch.setattr(compute, "has_native_bfloat16", lambda _: False)


@pytest.fixture
def native(monkeypatch):
    """A processor that has it."""
    monkeypatch.setattr(compute, "has_native_bfloat16", lambda _: True)


@pytest.mark.usefixtures("native")
def test_all_entrants_have_one_loss_and_one_batch_and_the_textbook_comes_first():
    field = entrants(seed=3)
    assert [each.name.split(",")[0] for each in field][:2] == ["Textbook VAE"] * 2
    assert len({each.config.loss.model_dump_json() for each in field}) == 1
    assert {each.batch_size for each in field} == {64}
    assert {each.config.seed for each in field} == {3}
    assert [each.config.training.precision for each in field[:2]] == ["float32", "bfloat16"]


@pytest.mark.usefixtures("emulated")
def test_where_bfloat16_is_emulated_nobody_enters_with_it():
    book, ours = entrants(seed=3)
    assert book.config.training.precision == "float32"
    assert ours.begin().gradients.compute.dtype == torch.float32


def test_ratios_are_of_images_a_second_to_the_last_entrant():
    found = ratios([pace("book", 2.0), pace("half", 1.0), pace("ours", 0.5)])
    assert found == {"book": 4.0, "half": 2.0}


def test_the_roof_is_a_rate_that_this_machine_reaches():
    found = roof(EXACT, turns=1)
    assert 1 < found.float32 < 1e6
    assert found.best == found.float32


@pytest.mark.parametrize("chosen", [True, False])
def test_the_roof_is_of_what_is_trained_in(chosen, monkeypatch):
    multiplied = []
    monkeypatch.setattr(pace_module, "SIDE", 8)
    monkeypatch.setattr(torch, "mm", lambda a, _: multiplied.append(a.dtype))
    found = roof(Compute(torch.device("cpu"), chosen), turns=1)
    assert set(multiplied) == {torch.float32, *([torch.bfloat16] if chosen else [])}
    assert found.best == (found.bfloat16 if chosen else found.float32)


def test_the_report_has_the_ratio_under_its_key_and_every_part_in_a_table():
    report = SpeedReport(
        "a machine",
        "bfloat16 (AVX512)",
        roof=Roof(150.0, 400.0),
        paces=[pace("book", 2.0), pace("half", 1.0), pace("ours", 0.5)],
        finishes=[Finish("book", 100.0, 3200, Interval(20.0, 19.9, 20.1), None)],
        round=RoundCost(2, 1024, 10.0, 12.0, 20.0, 9.0),
        crowds=[Crowd(1000, 10, 30.0, 800.0, 400.0)],
    )
    facts = json.loads(json.dumps(to_json(report)))
    assert facts["training"]["images_per_second_ratio"] == 4.0
    assert facts["round"]["ratio"] == pytest.approx(10 / 9)
    assert facts["training"]["entrants"][2]["of_roof"] == pytest.approx(2.0 * 128 / 400)
    text = speed_markdown(report)
    assert facts["precision"] == "bfloat16 (AVX512)"
    assert text.startswith("Measured on a machine; trained in bfloat16 (AVX512).")
    for words in ("| ours | 1.0 M | 64 | 128.0 | 4.00 |", "| ratio | 1.11 |", "10 of 1000"):
        assert words in text


def test_a_report_without_bfloat16_measures_against_float32():
    paces = [pace("book", 2.0), pace("ours", 0.5)]
    report = SpeedReport("a machine", "float32 (AVX2)", roof=Roof(100.0), paces=paces)
    assert to_json(report)["training"]["entrants"][1]["of_roof"] == pytest.approx(2.0 * 128 / 100)
    text = speed_markdown(report)
    assert "trained in float32 (AVX2)" in text
    assert "bfloat16" not in text


@pytest.mark.slow
def test_a_race_that_goes_on_keeps_to_the_seconds_it_began_with(tmp_path):
    """The pace of a machine is never measured twice the same."""
    rng = np.random.default_rng(0)
    faces = write_shard(
        tmp_path / "faces",
        rng.integers(0, 255, (66, 128, 128, 3), dtype=np.uint8),
        np.repeat(mean_shape()[None], 66, axis=0).astype(np.float32),
        [IndexRow(person=f"p{n}", split="train" if n < 64 else "val") for n in range(66)],
    )
    first = race(faces, [pace("book", 1.0)], out=tmp_path / "race", images=6)
    assert [finish.ahead is None for finish in first] == [True, False, False, False]
    assert all(finish.images >= 64 for finish in first)
    again = race(faces, [pace("book", 0.7)], out=tmp_path / "race", images=6)
    assert again == first


def test_peaks_see_the_memory_of_a_child():
    hungry = "import time; a = bytearray(200 * 2**20); time.sleep(1.5)"
    with peaks(program_of) as highest:
        subprocess.run([sys.executable, "-c", hungry], check=True)
    assert max(highest.values()) > 200


def test_programs_are_named_by_their_script():
    assert program_of(["/x/bin/python3.11", "/x/bin/flwr-simulation", "--y"]) == "flwr-simulation"
    assert program_of(["/usr/bin/flower-superlink", "--z"]) == "flower-superlink"
    assert program_of([]) == ""


# --- federation --------------------------------------------------------------------------------


def test_each_row_changes_one_thing_and_sees_as_many_images(tmp_path):
    rows = {row.name: row for row in settings()}
    base = config_of(rows[BASE], tmp_path, seed=1, rounds=10)
    for row in rows.values():
        config = config_of(row, tmp_path, seed=1, rounds=10)
        ours, theirs = (dump_run_config(each).splitlines() for each in (config, base))
        passes = config.federation.rounds * config.federation.local_epochs
        assert passes * config.federation.fraction == 10
        changed = {line.split(":")[0].strip() for line in set(ours) ^ set(theirs)}
        assert len(row.changes) == {BASE: 0, CENTRAL: 2, "central-alike": 0}.get(row.name, 1)
        allowed = {"name", "rounds", "local_epochs", "fraction", "kind", "attribute", "alpha"}
        assert changed <= allowed | {"mu", "learning_rate", "beta_1", "beta_2", "tau"} | {
            *("ema_decay", "codec"),
            *(("batch_size",) if row.name == CENTRAL else ()),
        }


def results() -> list[Result]:
    people = ["anna", "anna", "ben", "cleo"]

    def one(name: str, seed: int, level: float, sent: int) -> Result:
        curve = [] if name == PCA else [(100, sent // 2, level - 1), (200, sent, level)]
        scores = [level, level, level + 1, level - 1]
        precision = "" if name == PCA else "float32 (AVX2)"
        return Result(name, seed, "", scores, people, curve, sent, precision=precision)

    return [
        one(PCA, 0, 21.0, 0),
        *(one(CENTRAL, seed, 22.0 + 0.1 * seed, 0) for seed in (0, 1)),
        *(one(BASE, seed, 21.8 + 0.1 * seed, 4000) for seed in (0, 1)),
        *(one("int8", seed, 21.7 + 0.1 * seed, 1000) for seed in (0, 1)),
    ]


def test_rows_are_compared_with_central_training_face_by_face():
    pca, central, base, int8 = summaries(results(), settings())
    assert central.to_central is None
    assert pca.to_central is None
    assert base.psnr.mean == pytest.approx(21.85)
    assert base.to_central.mean == pytest.approx(-0.2)
    assert base.to_central.low == pytest.approx(-0.2)
    text = to_markdown([pca, central, base, int8])
    assert text.startswith("Trained in float32 (AVX2).\n")
    assert "| int8 updates | 2 | 200 |" in text
    assert text.splitlines()[-1].endswith("| 0.250 |")


def test_curves_are_those_of_the_first_seed():
    drawn = charts(results(), settings())
    for label in ("central 22 dB", "8 sites by person 21.8 dB", "int8 updates 21.7 dB"):
        assert label in drawn["images"]
    assert "central" not in drawn["bytes"]  # nothing leaves a site there
    assert "int8 updates 21.7 dB" in drawn["bytes"]


def test_a_row_is_made_once_for_one_recipe(tmp_path):
    faces = write_shard(
        tmp_path / "faces",
        np.zeros((2, 32, 32, 3), np.uint8),
        np.zeros((2, 68, 2), np.float32),
        [IndexRow(person="anna", split="train"), IndexRow(person="ben", split="val")],
    )
    made = []

    def make() -> dict[str, object]:
        made.append(1)
        return {"psnr": [20.0], "curve": [[1, 2, 3.0]]}

    first = _kept(tmp_path, BASE, 0, "recipe", make, faces)
    again = _kept(tmp_path, BASE, 0, "recipe", make, faces)
    assert again.psnr == first.psnr == [20.0]
    assert first.people == ["ben"]
    _kept(tmp_path, BASE, 0, "another", make, faces)
    assert len(made) == 2
