"""The quality benchmark's own arithmetic and files, on faces and methods that are nearly free."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks import quality as bench_quality
from benchmarks.__main__ import _rungs
from benchmarks.claims import claims
from benchmarks.faces import faces_for
from benchmarks.judge import GREY, Judges, Remembering, Scores, judge, lpips_judge
from benchmarks.ladder import BASELINE, CONFIGS, PAIRS, Job, Rung, ladder
from benchmarks.method import Facts
from benchmarks.quality import Options, run_quality
from benchmarks.sets import Distance, SetJudge, couples_of, distances_between
from benchmarks.store import FORMAT_VERSION, Row, read_row, same_setup, write_row
from benchmarks.table import differences, to_markdown
from facemorph_core.config import load_run_config
from facemorph_core.disk.run_folder import held_alone
from facemorph_core.errors import ModelError, OutputError, ShardError
from facemorph_core.evaluation.groups import brightness, by_group, groups_of, thirds
from facemorph_core.evaluation.reconstructions import (
    Reconstructed,
    identity_judge,
    other_photo,
    psnr_judge,
    score,
    ssim_judge,
)
from facemorph_core.learning.training import compute
from facemorph_core.metrics.bootstrap import Interval
from facemorph_core.shards.shard import IndexRow, Shard, write_shard
from tests.federation.local_grid import soft_faces

SIZE = 32
ROWS = ["dct-128", BASELINE, "vae"]


class Blocks:
    """A face as the means of its squares of ``side`` pixels."""

    def __init__(self, side: int, *, has_prior: bool = True) -> None:
        self.side, self.has_prior = side, has_prior
        self.name = f"Blocks-{side}"
        numbers = 3 * (SIZE // side) ** 2
        self.facts = Facts(numbers, parameters=0, images_seen=7, seconds=1.5, note="a fake")

    def encode(self, pixels, landmarks):
        count, grid = len(pixels), SIZE // self.side
        squares = pixels.reshape(count, grid, self.side, grid, self.side, 3)
        return squares.mean(axis=(2, 4)).reshape(count, -1).astype(np.float32)

    def decode(self, codes):
        grid = SIZE // self.side
        small = np.rint(codes).clip(0, 255).astype(np.uint8).reshape(-1, grid, grid, 3)
        return small.repeat(self.side, axis=1).repeat(self.side, axis=2)

    def sample(self, count: int, *, seed: int):
        drawn = np.random.default_rng(seed).uniform(0, 255, (count, self.facts.numbers))
        return drawn.astype(np.float32) if self.has_prior else None


class Counting:
    """A rung's fit that counts its calls."""

    def __init__(self, make: Callable[[], Blocks]) -> None:
        self.make, self.calls = make, 0

    def __call__(self, job: Job) -> Blocks:
        self.calls += 1
        assert len(job.rows)
        return self.make()


def look(pictures):
    """Toy features: three numbers a picture."""
    return pictures.mean(axis=(1, 2)) / 255


class ToyEmbedder:
    """A person is three numbers."""

    def embed(self, faces, landmarks):
        return look(faces)


def toy_person_judge(faces, rows):
    return identity_judge(faces, other_photo(faces.people, rows.tolist()), ToyEmbedder())


def shard_at(path: Path, *, people: int = 16, photos: int = 3, held_out: int = 10) -> Shard:
    count = (people + held_out) * photos
    rng = np.random.default_rng(0)
    index = [
        IndexRow(
            person=f"p{i // photos:02d}",
            split="train" if i < people * photos else "val",
            digest=str(i),
            attributes={
                "Male": 1 if (i // photos) % 2 else -1,
                "Smiling": int(rng.integers(-1, 2)),
                "Bald": -1,
            },
        )
        for i in range(count)
    ]
    square = np.array([[8, 8], [23, 8], [23, 23], [8, 23]], np.float32)
    landmarks = np.tile(square, (count, 17, 1))
    return write_shard(path, soft_faces(count, SIZE, seed=1), landmarks, index)


@pytest.fixture
def shard(tmp_path) -> Shard:
    return shard_at(tmp_path / "shard")


@pytest.fixture
def rungs() -> list[Rung]:
    sides = {"dct-128": 16, BASELINE: 8, "vae": 4}
    return [
        Rung(name, f"The {name}", Counting(lambda side=side: Blocks(side, has_prior=side < 16)))
        for name, side in sides.items()
    ]


@pytest.fixture
def options(tmp_path, shard, rungs, monkeypatch) -> Options:
    """A benchmark whose judges need no weights."""
    monkeypatch.setattr(bench_quality, "_shard", lambda options, watch: shard)
    monkeypatch.setattr(bench_quality, "picture_judges", lambda: [psnr_judge, ssim_judge])
    monkeypatch.setattr(bench_quality, "person_judge", toy_person_judge)
    monkeypatch.setattr(bench_quality, "load_features", lambda: None)
    monkeypatch.setattr(bench_quality, "vgg_features", lambda network, pictures: look(pictures))
    return Options(data=tmp_path, out=tmp_path / "runs" / "quality", rungs=rungs, split="val")


# --- the whole -------------------------------------------------------------------------------


def test_everything_is_written_and_every_row_is_in_it(options):
    report = run_quality(options)
    table = (options.out / "table.md").read_text()
    found = json.loads((options.out / "bench.json").read_text())
    for name in ROWS:
        assert table.count(f"| The {name} |") == (3 if name == BASELINE else 4)
        scores = np.load(options.out / "rows" / name / "scores.npz")
        assert scores["psnr"].shape == (30,)
        assert found["rows"][name]["scores"]["psnr"]["mean"] == pytest.approx(scores["psnr"].mean())
    assert [row.name for row in report.rows] == ROWS
    assert "Not measured: no two rows of a pair are there." in table
    assert "| real photos, of other people |" in table
    assert "FID is not measured" in table
    assert "samples" not in "".join(found["rows"]["dct-128"]["distances"])
    assert "kd.samples" in found["rows"]["vae"]["distances"]
    assert found["rows"]["vae"]["against"][BASELINE]["psnr"]["low"] > 0
    assert found["rows"]["vae"]["groups"]["Male"]["yes"]["faces"] == 15
    with Image.open(options.out / "grid.png") as grid:
        assert grid.height == 4 * (SIZE + 2) - 2


def test_a_finished_row_is_not_made_again(options, rungs):
    first = run_quality(options)
    second = run_quality(options)
    assert [rung.fit.calls for rung in rungs] == [1, 1, 1]
    assert {k: d.interval for k, d in first.floor.items()} == {
        k: d.interval for k, d in second.floor.items()
    }
    for before, after in zip(first.rows, second.rows, strict=True):
        assert before.facts == after.facts
        for name, distance in before.scores.distances.items():
            np.testing.assert_array_equal(
                distance.resampled, after.scores.distances[name].resampled
            )
        np.testing.assert_array_equal(before.shown, after.shown)
        for name, column in before.scores.columns.items():
            np.testing.assert_array_equal(column, after.scores.columns[name])


def test_after_a_kill_only_what_is_missing_is_made(options, rungs):
    def killed(job: Job) -> Blocks:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_quality(replace(options, rungs=[*rungs[:2], replace(rungs[2], fit=killed)]))
    run_quality(options)
    assert [rung.fit.calls for rung in rungs] == [1, 1, 1]


def test_rows_may_come_later_and_a_table_may_have_fewer(options, rungs):
    run_quality(replace(options, rungs=rungs[:1]))
    assert "`pca-128` is not among the rows" in (options.out / "table.md").read_text()
    run_quality(options)
    assert rungs[0].fit.calls == 1
    assert "The vae" in (options.out / "table.md").read_text()


def test_the_curve_is_of_pictures_alone_in_both_framings(options, monkeypatch):
    monkeypatch.setattr(bench_quality, "CURVE_NUMBERS", (2, 5))
    run_quality(replace(options, curve=True))
    found = json.loads((options.out / "bench.json").read_text())
    assert found["curve"].keys() == {"portrait", "tight"}
    for framing in found["curve"].values():
        few, many = framing["pca-2"], framing["pca-5"]
        assert few["scores"]["psnr"]["mean"] < many["scores"]["psnr"]["mean"]
        assert "identity.distance" not in many["scores"]
        assert many["distances"] == {}
    assert "identity.distance" in found["rows"]["vae"]["scores"]
    assert "## PCA by numbers and framing" in (options.out / "table.md").read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "seed 0, now 1"),
        ({"minutes": 5.0}, "minutes 20.0, now 5.0"),
        ({"split": "tune"}, "split val, now tune"),
        ({"quick": True}, "quick False, now True"),
    ],
)
def test_another_setup_is_refused(options, rungs, change, told):
    run_quality(options)
    with pytest.raises(OutputError, match=f"another setup, whose rows do not compare: {told}"):
        run_quality(replace(options, **change))
    assert rungs[0].fit.calls == 1


def test_rows_that_learn_by_the_clock_take_turns_of_a_minute_unless_they_are_there(options):
    told: list[tuple[str, float]] = []

    def learning(rung: Rung) -> Rung:
        return replace(rung, learn=lambda job, until: told.append((job.folder.name, until)))

    one, other, still = options.rungs
    options = replace(options, rungs=[learning(one), learning(other), still], minutes=2.5)
    run_quality(replace(options, rungs=options.rungs[:1]))
    assert told == [(one.name, 60), (one.name, 120), (one.name, 150)]
    told.clear()
    third = replace(learning(still), name="third")
    run_quality(replace(options, rungs=[*options.rungs, third]))
    turns = itertools.product((60, 120, 150), (other.name, "third"))
    assert told == [(name, until) for until, name in turns]


def test_a_folder_of_an_earlier_format_is_refused(options):
    run_quality(options)
    file = options.out / "bench.json"
    said = json.loads(file.read_text())
    del said["setup"]["format_version"]
    file.write_text(json.dumps(said))
    with pytest.raises(OutputError, match=f"format_version None, now {FORMAT_VERSION}"):
        run_quality(options)


def test_other_data_or_another_machine_is_refused(options, tmp_path, monkeypatch):
    run_quality(options)
    monkeypatch.setattr(bench_quality, "machine", lambda: {"cpu": "abacus"})
    with pytest.raises(OutputError, match="abacus"):
        run_quality(options)
    monkeypatch.undo()
    other = shard_at(tmp_path / "other", people=17)
    monkeypatch.setattr(bench_quality, "_shard", lambda options, watch: other)
    with pytest.raises(OutputError, match=r"another setup.*data [0-9a-f]{64}, now"):
        run_quality(options)


def test_the_precision_is_told_and_another_one_is_refused(options, monkeypatch):
    """What is emulated learns less in the same minutes."""
    monkeypatch.setattr(compute, "has_native_bfloat16", lambda _: True)
    assert ", in bfloat16 (" in to_markdown(run_quality(options))
    monkeypatch.setattr(compute, "has_native_bfloat16", lambda _: False)
    with pytest.raises(OutputError, match=r"'precision': 'bfloat16 .*, now .* 'float32 "):
        run_quality(options)


def test_a_row_of_another_config_is_refused(options, rungs):
    run_quality(options)
    changed = [*rungs[:2], replace(rungs[2], recipe="another")]
    with pytest.raises(OutputError, match="vae was made with another config"):
        run_quality(replace(options, rungs=changed))


def test_one_process_at_a_time(options):
    with held_alone(options.out, other="run", hint=""), pytest.raises(OutputError) as refused:
        run_quality(options)
    assert "in use by another benchmark" in str(refused.value)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        same_setup(tmp_path, {})


# --- rows and differences --------------------------------------------------------------------


def row_of(columns, name: str = "a") -> Row:
    shown = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    scores = Scores(columns, {"fd.morphs": Distance(1.0, (0.5, 1.5))})
    return Row(name, name.upper(), Blocks(8).facts, scores, shown)


def test_a_row_comes_back_as_it_was_written(tmp_path):
    row = row_of({"psnr": np.array([20.0, np.nan])})
    write_row(tmp_path / "a", row, recipe="r")
    found = read_row(tmp_path / "a", recipe="r")
    assert (found.name, found.label, found.facts) == (row.name, row.label, row.facts)
    assert found.scores.distances == row.scores.distances
    np.testing.assert_array_equal(found.scores.columns["psnr"], row.scores.columns["psnr"])
    np.testing.assert_array_equal(found.shown, row.shown)
    assert read_row(tmp_path / "b", recipe="r") is None


def test_a_damaged_row_says_what_to_remove(tmp_path):
    write_row(tmp_path / "a", row_of({"psnr": np.zeros(2)}), recipe="")
    (tmp_path / "a" / "scores.npz").write_bytes(b"half")
    with pytest.raises(OutputError, match="is damaged") as caught:
        read_row(tmp_path / "a", recipe="")
    assert caught.value.hint == f"remove {tmp_path / 'a'} to have it made again"


def test_a_method_does_not_differ_from_itself():
    columns = {"psnr": np.random.default_rng(0).normal(20, 3, 12), "lpips": np.full(12, np.nan)}
    row = row_of(columns)
    nothing = Interval(0.0, 0.0, 0.0)
    assert differences(row, row, list("aabbccddeeff")) == {"psnr": nothing, "fd.morphs": nothing}


def test_a_difference_counts_faces_that_both_have():
    one = row_of({"psnr": np.array([1.0, np.nan, 3.0, 9.0])})
    other = row_of({"psnr": np.array([0.0, 5.0, 2.0, np.nan])})
    assert differences(one, other, list("abcd"))["psnr"] == Interval(1.0, 1.0, 1.0)


# --- claims ----------------------------------------------------------------------------------


def scored(name: str, psnr: float, fd: float, *, numbers: int = 128) -> Row:
    columns = {"psnr": np.array([psnr - 0.1, psnr + 0.1] * 6), "lpips": np.full(12, 0.1)}
    scores = Scores(columns, {"fd.morphs": Distance(fd, (fd - 0.1, fd + 0.1))})
    facts = replace(Blocks(8).facts, numbers=numbers)
    return Row(name, name.upper(), facts, scores, np.zeros((1, 8, 8, 3), np.uint8))


PEOPLE = list("aabbccddeeff")


def verdicts(*rows: Row, curve=None) -> dict[str, tuple[str, str]]:
    return {c.said: (c.verdict, c.measured) for c in claims(rows, curve or {}, PEOPLE)}


def test_a_claim_is_tried_on_the_row_that_is_best_in_it():
    wider = scored("wider", 40.0, 1.0, numbers=512)
    found = verdicts(scored("ae", 29.0, 4.0), scored("vae", 27.0, 2.0), wider)
    assert found["PSNR above 28 dB from 128 numbers"][0] == "yes"
    verdict, measured = found["PSNR above 30 dB from 128 numbers"]
    assert verdict == "no"
    assert "(AE)" in measured
    assert found["LPIPS (AlexNet) below 0.15 from 128 numbers"][0] == "yes"
    assert found["SSIM above 0.80 from 128 numbers"] == ("-", "not measured")
    morphs = found["a VAE's morphs 18% better in Fréchet distance than an AE's"]
    assert morphs[0] == "yes"
    assert "better by 50.0%" in morphs[1]


def test_a_claim_that_the_interval_does_not_decide_is_open():
    wide = replace(scored("ae", 28, 1), scores=Scores({"psnr": np.repeat([24.0, 33.0], 6)}, {}))
    assert verdicts(wide)["PSNR above 28 dB from 128 numbers"][0] == "open"


def test_the_curve_says_how_many_numbers_it_takes():
    curve = {
        "portrait": [scored("a", 22, 1, numbers=128), scored("b", 27, 1, numbers=1024)],
        "tight": [scored("c", 24, 1, numbers=128), scored("d", 29, 1, numbers=1024)],
    }
    told = verdicts(scored("ae", 22, 1), curve=curve)["where PSNR above 28 dB is reached"][1]
    assert told == "by PCA, portrait: more than 1,024 (27.00 dB); tight: 1,024 (29.00 dB)"


# --- faces and groups ------------------------------------------------------------------------


def people_of(shard: Shard, split: str) -> set[str]:
    return {shard.people[row] for row in shard.rows(split)}


def test_nobody_is_both_fitted_on_and_scored(shard, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.faces.TUNE_PEOPLE", 5)
    tune = faces_for(shard, "tune", quick=False, seed=0, folder=tmp_path / "tune")
    assert len(people_of(tune, "val")) == 5
    assert not people_of(tune, "train") & people_of(tune, "val")
    assert people_of(tune, "train") | people_of(tune, "val") == people_of(shard, "train")
    again = faces_for(shard, "tune", quick=False, seed=0, folder=tmp_path / "again")
    assert people_of(again, "val") == people_of(tune, "val")
    other = faces_for(shard, "tune", quick=False, seed=1, folder=tmp_path / "other")
    assert people_of(other, "val") != people_of(tune, "val")
    assert faces_for(shard, "val", quick=False, seed=0, folder=tmp_path / "val") is shard


def test_a_quick_try_takes_whole_people(shard, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.faces.QUICK_TRAIN", 9)
    monkeypatch.setattr("benchmarks.faces.QUICK_SCORED", 7)
    quick = faces_for(shard, "val", quick=True, seed=0, folder=tmp_path / "quick")
    assert [len(quick.rows(split)) for split in ("train", "val")] == [9, 7]
    assert [len(people_of(quick, split)) for split in ("train", "val")] == [3, 3]
    assert people_of(quick, "val") <= people_of(shard, "val")


def test_nobody_to_score_is_refused(tmp_path):
    shard = shard_at(tmp_path / "shard", held_out=0)
    with pytest.raises(ShardError, match="48 photos to fit on and 0 to score"):
        faces_for(shard, "val", quick=False, seed=0, folder=tmp_path / "val")


def test_each_trait_sorts_every_face_into_one_group(shard):
    groups = groups_of(shard, shard.rows("val"))
    assert set(groups) == {"Male", "Smiling", "Brightness"}
    assert set(groups["Male"]) == {"yes", "no"}
    assert set(groups["Smiling"]) == {"yes", "no", "unknown"}
    for parts in groups.values():
        assert (np.sum(list(parts.values()), axis=0) == 1).all()


def test_the_groups_scores_make_up_the_whole(shard):
    rows = shard.rows("val")
    values = np.random.default_rng(0).normal(size=len(rows))
    people = [shard.people[row] for row in rows]
    for parts in by_group({"psnr": values}, groups_of(shard, rows), people).values():
        total = sum(group.faces * group.intervals["psnr"].mean for group in parts.values())
        assert total / len(rows) == pytest.approx(values.mean())


@given(st.lists(st.floats(0, 255), min_size=1, max_size=20))
def test_thirds_are_equal_and_in_order(values):
    found = thirds(np.array(values))
    sizes = [mask.sum() for mask in found.values()]
    assert sum(sizes) == len(values)
    assert max(sizes) - min(sizes) <= 1
    parts = [np.array(values)[mask] for mask in found.values()]
    assert all(a.max() <= b.min() for a, b in itertools.pairwise(parts))


def test_brightness_is_that_of_the_face(shard, monkeypatch):
    pictures = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    pictures[:, 8:24, 8:24] = [[[[100]]], [[[200]]]]
    monkeypatch.setattr(Shard, "images", lambda self, rows: pictures)
    np.testing.assert_allclose(brightness(shard, np.array([0, 1])), [100, 200])


# --- sets ------------------------------------------------------------------------------------


def test_couples_are_two_people_of_one_half():
    people = np.array(list("aaabbccccdeefffgghh"))
    couples = couples_of(people.tolist(), seed=0)
    for place, partner, couple in zip(couples.places, couples.partner, couples.couple, strict=True):
        assert people[place] != people[partner]
        assert couple == couples.couple[couples.places.tolist().index(partner)]
    one, other = (set(people[couples.places[half]]) for half in couples.halves)
    assert not one & other
    assert len(one | other) == 8
    assert couples.suffice
    assert not couples_of(["a", "b", "c", "d"], seed=0).suffice


def test_no_morph_is_made_twice():
    couples = couples_of(list("aaabbb"), seed=0)
    pairs = zip(couples.places.tolist(), couples.partner.tolist(), strict=True)
    assert len({frozenset(pair) for pair in pairs}) == 6


def test_perfect_faces_are_as_far_from_photos_as_photos(shard):
    rows = shard.rows("val")
    people = [shard.people[row] for row in rows]
    couples = couples_of(people, seed=0)
    real = look(shard.images(rows))[couples.places]
    floor = distances_between(real, real, couples)
    perfect = judge(
        Blocks(1), shard, rows, Judges([psnr_judge], SetJudge(couples, real, look, seed=0))
    )
    for kind in ("fd", "kd"):
        found = perfect.distances[f"{kind}.reconstructions"]
        assert found.value == pytest.approx(floor[kind].value, abs=1e-9)
        assert found.interval.low < found.value < found.interval.high
        same = found.less(floor[kind])
        assert (same.low, same.mean, same.high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert np.isinf(perfect.columns["psnr"]).all()
    samples, made = (perfect.distances[f"fd.{name}"] for name in ("samples", "reconstructions"))
    assert samples.less(made).low > 0
    assert made.gain_over(samples).mean == pytest.approx(1 - made.value / samples.value)


def test_what_all_sets_share_drops_out_of_their_difference():
    luck = np.random.default_rng(0).normal(size=50)
    one, other = (Distance(value, tuple(value + luck)) for value in (7.0, 5.0))
    assert one.interval.high - one.interval.low > 2
    difference = one.less(other)
    assert (difference.low, difference.mean, difference.high) == pytest.approx((2, 2, 2))


# --- judges ----------------------------------------------------------------------------------


def test_lpips_of_the_hull_does_not_see_the_rest(monkeypatch):
    seen_by_network = []

    def difference(network, a, b):
        seen_by_network.append(a)
        return np.abs(a.astype(float) - b).mean(axis=(1, 2, 3))

    monkeypatch.setattr("benchmarks.judge.lpips", difference)
    originals = soft_faces(2, SIZE, seed=0)
    made = originals.copy()
    made[:, :4] = 255 - made[:, :4]
    landmarks = np.tile(np.array([[8, 8], [23, 8], [23, 23], [8, 23]], np.float32), (2, 17, 1))
    found = lpips_judge(None)(Reconstructed(np.arange(2), originals, made, landmarks))
    assert (found["lpips"] > 0).all()
    assert (found["lpips_hull"] == 0).all()
    assert (seen_by_network[1][:, 0] == GREY).all()


def test_a_face_is_embedded_once():
    class Embedder:
        faces = 0

        def embed(self, faces, landmarks):
            self.faces += len(faces)
            return faces[:, 0, :5, 0].astype(np.float64)

    embedder = Embedder()
    remembering = Remembering(embedder)
    faces, landmarks = soft_faces(4, SIZE, seed=0), np.zeros((4, 68, 2), np.float32)
    first = remembering.embed(faces, landmarks)
    np.testing.assert_array_equal(remembering.embed(faces[::-1], landmarks), first[::-1])
    assert embedder.faces == 4
    remembering.embed(faces[:1], landmarks[:1] + 1)
    assert embedder.faces == 5
    assert remembering.embed(faces[:0], landmarks[:0]).shape == (0, 5)


def test_the_judges_columns_are_those_of_the_reconstructions(shard):
    rows, method = shard.rows("val")[:5], Blocks(4)
    direct = score(shard, rows, lambda p, q: method.decode(method.encode(p, q)), [psnr_judge])
    told = []
    found = judge(method, shard, rows, Judges([psnr_judge]), watch=lambda *args: told.append(args))
    np.testing.assert_array_equal(found.columns["psnr"], direct["psnr"])
    assert found.distances == {}
    assert told[-1] == ("judging its faces", 5, 5)


# --- the command -----------------------------------------------------------------------------


def test_the_ladder_is_what_the_help_says():
    names = [rung.name for rung in ladder(seed=0)]
    assert names == [
        *("dct-128", BASELINE, "shape24+pca104", "textbook-vae"),
        *("ae", "vae", "vae-fitted", "vae-plain", "vae-perceptual", "vaegan", "starter"),
    ]
    assert [rung.name for rung in _rungs("vae, dct-128", [], seed=0)] == ["dct-128", "vae"]
    recipes = [rung.recipe for rung in ladder(seed=0)[3:-1]]
    assert len(set(recipes)) == 6
    assert recipes != [rung.recipe for rung in ladder(seed=1)[3:-1]]


def test_pairs_are_of_rows_that_there_are():
    assert {name for pair in PAIRS.values() for name in pair} <= {r.name for r in ladder(seed=0)}


def test_the_vaegan_differs_from_its_pair_in_the_adversary_alone():
    said = [
        load_run_config(CONFIGS / f"quality_{name}.yaml").model_dump()
        for name in ("perceptual", "vaegan")
    ]
    for config in said:
        config["name"] = ""
        config["model"] = {k: v for k, v in config["model"].items() if "discriminator" not in k}
        config["model"]["kind"] = ""
        config["loss"] = {k: v for k, v in config["loss"].items() if "adversarial" not in k}
    assert said[0] == said[1]


def test_finished_models_come_last_and_go_by_their_own_name():
    with pytest.raises(typer.BadParameter, match="'starter' is a row already"):
        _rungs(None, ["starter"], seed=0)
    assert [rung.name for rung in _rungs("vae,starter", [], seed=0)] == ["vae", "starter"]
    fitted = _rungs("starter", [], ["starter"], seed=0)
    assert [rung.name for rung in fitted] == ["starter", "starter-fitted"]
    assert fitted[0].recipe != fitted[1].recipe
    with pytest.raises(ModelError, match="there is no model"):
        _rungs(None, ["nowhere.facemorph"], seed=0)


def test_a_finished_model_is_a_row_once(monkeypatch):
    monkeypatch.setattr("benchmarks.ladder.ladder", lambda seed: [])
    assert [rung.name for rung in _rungs(None, ["starter"], seed=0)] == ["starter"]
    with pytest.raises(typer.BadParameter, match="'starter' is a row already"):
        _rungs(None, ["starter", "starter"], seed=0)


def test_an_unknown_row_lists_those_that_there_are():
    with pytest.raises(typer.BadParameter, match="'vqvae': there are dct-128, pca-128"):
        _rungs("vae,vqvae", [], seed=0)
