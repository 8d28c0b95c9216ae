import pytest

pytest.importorskip("torch", reason="models are made here")

import csv
import json
from pathlib import Path

import numpy as np
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from facemorph_core.bundle import open_bundle
from facemorph_core.cli import evaluate as cli
from facemorph_core.config.schema import AEConfig
from facemorph_core.errors import ModelError, OutputError, ShardError, WeightsUnavailable
from facemorph_core.evaluation.reconstructions import (
    identity_judge,
    intervals,
    other_photo,
    psnr_judge,
    score,
)
from facemorph_core.learning import weights
from facemorph_core.learning.models.build import build_model
from facemorph_core.learning.release.write import write_bundle
from facemorph_core.metrics import interval_of_mean, psnr, ssim
from facemorph_core.shards.rows import spread
from facemorph_core.shards.shard import IndexRow, Shard, write_shard

SIZE = 32
PEOPLE = ["anna", "anna", "ben", "ben", "cleo", "cleo", "cleo", "dan"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    model = build_model(AEConfig(image_size=SIZE, width=8, latent_dim=8))
    out = tmp_path_factory.mktemp("bundle") / "tiny.facemorph"
    config = {"name": "tiny", "model": {"kind": "ae"}}
    return write_bundle(model, out, config=config, training={}, metrics={})


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Shard:
    return make_shard(tmp_path_factory.mktemp("shard") / "shard", size=SIZE)


def make_shard(out: Path, *, size: int) -> Shard:
    """Coloured noise; landmarks on a circle in the middle. The first photo is for training."""
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (len(PEOPLE) + 1, size, size, 3), dtype=np.uint8)
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    circle = size / 2 + size / 4 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    smiles = [{"Smiling": 1 if person in ("anna", "ben") else -1} for person in PEOPLE]
    scored = zip(PEOPLE, smiles, strict=True)
    rows = [
        IndexRow("zoe", "train", attributes={"Smiling": 1}),
        *(IndexRow(person, "val", attributes=traits) for person, traits in scored),
    ]
    return write_shard(out, faces, np.stack([circle] * len(rows)).astype(np.float32), rows)


@pytest.fixture(autouse=True)
def an_empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))


def run(*arguments: object):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(cli.command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(bundle: Path, shard: Shard, *more: object) -> dict:
    result = run("--model", bundle, "--shard", shard.path, "--json", *more)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_the_numbers_are_those_of_a_plain_loop(bundle, shard):
    model, rows = open_bundle(bundle), shard.rows("val")
    faces = shard.images(rows)
    made = model.decode(model.encode(faces))
    people = [shard.people[row] for row in rows]
    said = answer(bundle, shard)
    for name, column in {"psnr": psnr(faces, made), "ssim": ssim(faces, made)}.items():
        truth = interval_of_mean(column, people)
        assert said[name] == pytest.approx(
            {"mean": truth.mean, "low": truth.low, "high": truth.high}
        )
        assert said[name]["low"] < said[name]["mean"] < said[name]["high"]
    assert said["psnr_hull"]["mean"] != said["psnr"]["mean"]
    assert set(said["ssim_hull"]) == {"mean", "low", "high"}


def test_it_says_what_was_measured(bundle, shard):
    said = answer(bundle, shard)
    opened = open_bundle(bundle)
    assert said["model"] == {
        "name": "tiny",
        "sha256": opened.digest,
        "networks": opened.manifest.networks,
    }
    assert said["shard"] == {"path": str(shard.path), "sha256": shard.digest()}
    assert (said["split"], said["images"], said["people"]) == ("val", 8, 4)
    assert "95%" in said["interval"]
    assert "people" in said["interval"]


def test_a_metric_without_its_weights_is_named_with_the_command(bundle, shard):
    said = answer(bundle, shard)
    assert "facemorph-core weights fetch alexnet" in said["unavailable"]["lpips"]
    assert "lpips" not in said
    table = run("--model", bundle, "--shard", shard.path)
    assert "facemorph-core weights fetch alexnet" in " ".join(table.stdout.split())
    alone = answer(bundle, shard, "--metrics", "lpips")
    assert list(alone["unavailable"]) == ["lpips"]


def test_without_torch_it_says_so(bundle, shard, monkeypatch):
    found = cli.find_spec
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "torch" else found(name))
    reason = answer(bundle, shard)["unavailable"]["lpips"]
    assert 'pip install "facemorph-core[train]"' in reason


@pytest.mark.weights
def test_lpips_where_the_weights_are(bundle, shard, monkeypatch):
    monkeypatch.delenv("FACEMORPH_CACHE")
    try:
        weights.find("alexnet")
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    said = answer(bundle, shard, "--metrics", "lpips")
    assert 0 < said["lpips"]["low"] <= said["lpips"]["mean"] <= said["lpips"]["high"]
    assert said["unavailable"] == {}


def test_fewer_faces_are_the_same_ones_every_time(bundle, shard):
    few = answer(bundle, shard, "--max-faces", 3)
    assert few["images"] == 3
    assert few == answer(bundle, shard, "--max-faces", 3)
    assert few["psnr"] != answer(bundle, shard)["psnr"]


def test_the_table_shows_each_metric_once(bundle, shard):
    lines = run("--model", bundle, "--shard", shard.path).stdout.splitlines()
    for name in ("psnr", "psnr_hull", "ssim", "ssim_hull"):
        assert sum(f" {name} " in line for line in lines) == 1


def test_each_face_has_its_line(bundle, shard, tmp_path):
    file = tmp_path / "faces.csv"
    said = answer(bundle, shard, "--per-image", file)
    lines = list(csv.DictReader(file.open(encoding="utf-8")))
    assert [line["person"] for line in lines] == PEOPLE
    assert [int(line["row"]) for line in lines] == list(range(1, 9))
    assert np.mean([float(line["psnr"]) for line in lines]) == pytest.approx(
        said["psnr"]["mean"], rel=1e-5
    )
    with pytest.raises(OutputError, match="exists already"):
        answer(bundle, shard, "--per-image", file)
    answer(bundle, shard, "--per-image", file, "--force")


@pytest.mark.parametrize("metrics", ["psnr,ssim", "lpips"])
def test_a_report_holds_scores_lines_and_a_picture(bundle, shard, tmp_path, metrics):
    folder = tmp_path / "report"
    said = answer(bundle, shard, "--metrics", metrics, "--report", folder)
    assert json.loads((folder / "scores.json").read_text()) == said
    assert len((folder / "per-image.csv").read_text().splitlines()) == 9
    picture = Image.open(folder / "faces.png")
    assert picture.height > 2 * SIZE
    with pytest.raises(OutputError, match="exists already"):
        answer(bundle, shard, "--report", folder)


def test_fitted_codes_draw_the_faces_better(bundle, shard):
    alone = answer(bundle, shard, "--metrics", "psnr")
    fitted = answer(bundle, shard, "--metrics", "psnr", "--fit", 2)
    assert (alone["fit"], fitted["fit"]) == (0, 2)
    assert fitted["psnr"]["mean"] > alone["psnr"]["mean"]


def test_scores_by_group_make_up_the_whole(bundle, shard):
    said = answer(bundle, shard, "--metrics", "psnr", "--by-group")
    smiling = said["groups"]["Smiling"]
    assert (smiling["yes"]["faces"], smiling["yes"]["people"]) == (4, 2)
    for parts in said["groups"].values():
        total = sum(part["faces"] * part["scores"]["psnr"]["mean"] for part in parts.values())
        assert total / said["images"] == pytest.approx(said["psnr"]["mean"])
    assert "groups" not in answer(bundle, shard, "--metrics", "psnr")


def test_what_cannot_be_scored_is_refused(bundle, shard, tmp_path):
    with pytest.raises(ShardError, match="no faces in the split 'test'"):
        answer(bundle, shard, "--split", "test")
    with pytest.raises(ModelError, match="32 px, the shard's 48 px"):
        answer(bundle, make_shard(tmp_path / "other", size=48))
    with pytest.raises(ModelError, match="there is no model"):
        answer(tmp_path / "none.facemorph", shard)
    result = run("--shard", shard.path, "--metrics", "psnr,fid")
    assert result.exit_code == 2
    assert "there are psnr, ssim, lpips, identity" in " ".join(result.stderr.split())


def test_another_framing_is_refused(bundle, shard, monkeypatch):
    framed = {**shard.framing, "eye_distance": 50 * SIZE / 128}
    monkeypatch.setattr(Shard, "framing", property(lambda self: framed))
    with pytest.raises(ModelError, match="frame faces differently"):
        answer(bundle, shard)


# --- the parts -------------------------------------------------------------------------------


@given(count=st.integers(1, 40), most=st.integers(1, 50))
def test_a_spread_is_ascending_without_doubles_and_has_both_ends(count, most):
    rows = 3 * np.arange(count)
    chosen = spread(rows, most)
    assert len(chosen) == min(count, most)
    assert set(chosen) <= set(rows)
    assert (np.diff(chosen) > 0).all()
    if most > 1:
        assert (chosen[0], chosen[-1]) == (rows[0], rows[-1])


@given(people=st.lists(st.sampled_from("abcd"), max_size=20), data=st.data())
def test_the_other_photo_is_another_one_of_the_same_person(people, data):
    rows = sorted(data.draw(st.sets(st.integers(0, len(people) - 1)))) if people else []
    pairs = other_photo(people, rows)
    owners = [people[row] for row in rows]
    assert set(pairs) == {row for row in rows if owners.count(people[row]) > 1}
    for row, other in pairs.items():
        assert row != other
        assert people[row] == people[other]
        assert other in rows
    assert len(set(pairs.values())) == len(pairs)


def test_batches_change_nothing(shard, monkeypatch):
    rows = shard.rows("val")
    whole = score(shard, rows, lambda pixels, _: pixels ^ 5, [psnr_judge])
    monkeypatch.setattr("facemorph_core.evaluation.reconstructions.BATCH", 3)
    told: list[tuple[int, int]] = []
    parts = score(
        shard, rows, lambda p, _: p ^ 5, [psnr_judge], progress=lambda *now: told.append(now)
    )
    assert told == [(3, 8), (6, 8), (8, 8)]
    for name, column in whole.items():
        np.testing.assert_array_equal(parts[name], column)


def test_a_face_without_a_score_does_not_count(caplog):
    columns = {"psnr_hull": np.array([1.0, np.nan, 3.0]), "ssim": np.array([np.nan] * 3)}
    found = intervals(columns, ["anna", "ben", "cleo"])
    assert found["psnr_hull"].mean == 2
    assert "ssim" not in found
    assert "1 faces have no psnr_hull" in caplog.text


TRIO = ["anna", "anna", "ben"]


class Colour:
    """Embeds a face as its mean colour, so distances can be worked out by hand."""

    def embed(self, faces, landmarks):
        return np.asarray(faces, np.float64).mean(axis=(1, 2)).reshape(len(faces), -1)


def test_identity_compares_with_this_photo_another_one_and_the_real_ones(monkeypatch):
    class Three:
        people = TRIO

        def images(self, rows):
            return np.array([[10, 0, 0], [12, 0, 0], [50, 0, 0]], np.uint8)[
                np.asarray(rows, int), None, None
            ]

        def landmarks(self, rows):
            return np.zeros((len(rows), 68, 2), np.float32)

    monkeypatch.setattr("facemorph_core.evaluation.reconstructions.VERIFIED_BELOW", 1.5)
    faces, rows = Three(), np.arange(3)
    judge = identity_judge(faces, other_photo(faces.people, rows.tolist()), Colour())
    columns = score(faces, rows, lambda pixels, _: pixels + np.array([1, 0, 0], np.uint8), [judge])
    np.testing.assert_array_equal(columns["identity.distance"], [1, 1, 1])
    np.testing.assert_array_equal(columns["identity.same_photo"], [1, 1, 1])
    np.testing.assert_array_equal(columns["identity.different_photo"], [1, 0, np.nan])
    np.testing.assert_array_equal(columns["identity.real_photos"], [0, 0, np.nan])


def test_identity_is_measured_when_asked_for(bundle, shard):
    said = answer(bundle, shard, "--metrics", "identity", "--max-faces", 2)
    assert set(said["identity"]) == {
        "same_photo",
        "different_photo",
        "real_photos",
        "distance",
    }
    assert 0 <= said["identity"]["same_photo"]["mean"] <= 1
    assert said["identity"]["distance"]["mean"] > 0
