"""What is said of morphs: measures that mean what they say, and a study that can be stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facemorph_core.cli.main import main
from facemorph_core.errors import OutputError, PairsError
from facemorph_core.evaluation.morphs import study as study_module
from facemorph_core.evaluation.morphs.judges import Judges, Remembering, judges_here
from facemorph_core.evaluation.morphs.measures import (
    landmark_error,
    relative_sharpness,
    unevenness,
)
from facemorph_core.evaluation.morphs.page import write_morph_report
from facemorph_core.evaluation.morphs.pairs import FilePair, FilePairs, ShardPairs, read_pairs
from facemorph_core.evaluation.morphs.study import PARENTS, Study, measured, run_study
from facemorph_core.evaluation.morphs.summary import Resamples, summarised
from facemorph_core.metrics.bootstrap import interval_of_mean
from facemorph_core.morphing.engine import Morpher
from facemorph_core.morphing.film_strips import Strip
from tests.core.faces import GRACE_HOPPER, astronaut, orl_photo, small_shard
from tests.damage import KINDS, damage

MODES = ("full", "latent", "landmark")

# --- measures ----------------------------------------------------------------------------------


def test_a_face_is_as_sharp_as_itself_and_sharper_than_its_blur(morpher: Morpher) -> None:
    face = morpher.face(GRACE_HOPPER).layer
    parents, points = (face.pixels, face.pixels), (face.landmarks, face.landmarks)
    assert relative_sharpness(face.pixels, points[0], parents, points) == pytest.approx(1)
    soft = np.asarray(Image.fromarray(face.pixels).resize((64, 64)).resize((128, 128)))
    assert relative_sharpness(soft, points[0], parents, points) < 0.6


def test_equal_steps_are_even_and_one_jump_is_not() -> None:
    assert unevenness(np.full(20, 0.1)) == pytest.approx(0)
    assert unevenness(np.zeros(20)) == 0
    jump = np.zeros(20)
    jump[9] = 1
    assert unevenness(jump) == pytest.approx(np.sqrt(19))


def test_landmarks_that_moved_by_a_pixel_are_a_pixel_away() -> None:
    points = np.random.default_rng(0).uniform(0, 128, (68, 2))
    assert landmark_error(points + np.array([0.6, 0.8]), points) == pytest.approx(1)


# --- intervals ---------------------------------------------------------------------------------


def test_pairs_without_a_person_in_common_are_resampled_by_pair() -> None:
    """With people who come once, a pair is drawn only if both of its people are."""
    values = np.random.default_rng(1).normal(size=300)
    names = [(f"a{n}", f"b{n}") for n in range(300)]
    found = Resamples(names).mean(values)
    plain = interval_of_mean(values, [str(n) for n in range(300)])
    assert found.mean == pytest.approx(plain.mean)
    wide, narrow = found.high - found.low, plain.high - plain.low
    assert narrow < wide < 2.2 * narrow  # to the safe side: every pair's weight is a product


def test_pairs_that_share_people_give_wider_intervals_than_they_seem_to() -> None:
    rng = np.random.default_rng(2)
    look = rng.normal(size=30)
    pairs = [tuple(rng.choice(30, 2, replace=False)) for _ in range(600)]
    values = np.array([look[a] + look[b] for a, b in pairs])
    names = [(str(a), str(b)) for a, b in pairs]
    found = Resamples(names).mean(values)
    naive = interval_of_mean(values, [str(n) for n in range(600)])
    assert found.high - found.low > 2 * (naive.high - naive.low)


def test_a_ratio_is_that_of_the_means_and_what_is_missing_is_left_out() -> None:
    names = [(f"a{n}", f"b{n}") for n in range(50)]
    theirs = np.random.default_rng(3).uniform(1, 2, 50)
    ours = 1.5 * theirs
    ours[7] = np.nan
    found = Resamples(names).ratio(ours, theirs)
    assert (found.mean, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))


# --- pairs -------------------------------------------------------------------------------------


def test_pairs_of_a_shard_are_of_different_people_and_photos(tmp_path: Path) -> None:
    people = {"ann": 3, "ben": 2, "cid": 4, "dee": 1, "eve": 2, "fay": 5}
    shard = small_shard(tmp_path / "shard", {"x": 1}, held_out=people)
    pairs = ShardPairs(shard, "val", 20, seed=1)
    assert len(pairs) == 20
    for a, b, a_other, b_other in pairs.rows:
        assert len({a, b, a_other, b_other}) == 4
        assert shard.people[a] == shard.people[a_other] != shard.people[b]
        assert shard.people[b] == shard.people[b_other]
    seen = [name for number in range(20) for name in pairs.names(number)]
    counts = {name: seen.count(name) for name in set(seen)}
    assert "dee" not in counts  # has no other photo
    assert max(counts.values()) - min(counts.values()) <= 4
    assert ShardPairs(shard, "val", 20, seed=1).rows == pairs.rows
    with pytest.raises(PairsError, match=r"0 people of the split 'train'"):
        ShardPairs(shard, "train", 5)


def test_a_table_of_pairs_names_files_beside_it(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("a,b,b_other\nanna.jpg,sub/ben.jpg,\n/abs/c.png,d.png,e.png\n")
    assert read_pairs(table) == [
        FilePair(tmp_path / "anna.jpg", tmp_path / "sub/ben.jpg"),
        FilePair(Path("/abs/c.png"), tmp_path / "d.png", None, tmp_path / "e.png"),
    ]


def test_a_face_of_a_photo_is_a_person(tmp_path: Path) -> None:
    """The column face is for all photos of a line, a column of its own for one of them."""
    table = tmp_path / "pairs.csv"
    table.write_text("a;b;a_other;Face;face_b\ngroup.jpg;group.jpg;else.jpg;2;only\n")
    group = tmp_path / "group.jpg"
    (pair,) = read_pairs(table, faces=(3, 4))
    assert pair == FilePair(group, group, tmp_path / "else.jpg", None, 2, "only", 2, 2)
    first, second = FilePairs([pair]).names(0)
    assert first != second == str(group)
    (pair,) = read_pairs(_written(tmp_path, "a,b\nx.jpg,y.jpg\n"), faces=(3, 4))
    assert (pair.face_a, pair.face_b, pair.face_a_other) == (3, 4, "largest")


def _written(folder: Path, text: str) -> Path:
    (folder / "pairs.csv").write_text(text)
    return folder / "pairs.csv"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y\n1,2\n", "no columns named a and b"),
        ("a,b\nanna.jpg,\n", "line 2: both a and b"),
        ("a,b\n", "holds no pair"),
        ("", "no columns named a and b"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, text: str, words: str) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(text)
    with pytest.raises(PairsError, match=words):
        read_pairs(table)
    with pytest.raises(PairsError, match="cannot be read"):
        read_pairs(tmp_path / "nothing.csv")


# --- the study ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def morpher() -> Morpher:
    return Morpher(size=128)


@pytest.fixture(scope="module")
def judges() -> Judges:
    return replace(judges_here(), steps=None, features=None)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> FilePairs:
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(astronaut()).save(folder / "eileen.png")
    eileen = folder / "eileen.png"
    return FilePairs(
        [
            FilePair(GRACE_HOPPER, eileen),
            FilePair(orl_photo(3, 1), orl_photo(4, 1), orl_photo(3, 5), orl_photo(4, 5)),
            FilePair(orl_photo(5, 1), orl_photo(6, 1), orl_photo(5, 5), orl_photo(6, 5)),
        ]
    )


@pytest.fixture(scope="module")
def study(
    pairs: FilePairs, morpher: Morpher, judges: Judges, tmp_path_factory: pytest.TempPathFactory
) -> Study:
    folder = tmp_path_factory.mktemp("study")
    return run_study(pairs, morpher, MODES, judges, folder, about="three pairs")


def test_the_ends_of_full_and_landmark_are_near_the_photos(study: Study) -> None:
    assert study.columns["full"]["ends"].min() > 34
    assert study.columns["landmark"]["ends"].min() > 34
    assert study.columns["latent"]["ends"].max() < 30
    assert study.columns["full"]["sharpness"].mean() > study.columns["landmark"]["sharpness"].mean()


def test_likeness_is_measured_only_against_another_photo(study: Study) -> None:
    worst = study.columns["full"]["worst"]
    assert np.isnan(worst[0])  # this pair has none
    assert np.isfinite(worst[1:]).all()
    to_a, to_b = (study.columns["full"][name][1] for name in ("to_a", "to_b"))
    assert to_a[0] < to_a[-1]  # the morph starts as the one and ends as the other
    assert to_b[-1] < to_b[0]
    bound = study.columns[PARENTS]["bound"]
    assert (bound[1:] < worst[1:] + 0.05).all()


def test_no_face_is_embedded_twice_and_each_gets_its_own() -> None:
    looked_at: list[int] = []

    class Mean:
        def embed(self, faces: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
            looked_at.append(len(faces))
            means = faces.mean(axis=(1, 2)) + landmarks.mean(axis=1).sum(axis=1)[:, None]
            return np.asarray(means, np.float64)

    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)[[0, 1, 0, 2, 2]]
    points = rng.uniform(0, 8, (5, 68, 2))
    points[2] = points[0]  # the same picture at the same landmarks; the last two differ in theirs
    remembering = Remembering(Mean())
    for _ in range(2):
        np.testing.assert_array_equal(remembering.embed(faces, points), Mean().embed(faces, points))
    assert looked_at == [4, 5, 5]


def test_a_study_goes_on_where_it_was_stopped(
    pairs: FilePairs,
    morpher: Morpher,
    judges: Judges,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study_module, "BLOCK", 1)
    folder = tmp_path / "study"
    counted: list[Any] = []

    def counting(*given: Any) -> Any:
        counted.append(given[1].mode)
        if len(counted) == 3:
            raise KeyboardInterrupt
        return measured(*given)

    monkeypatch.setattr(study_module, "measured", counting)
    few = FilePairs(pairs.pairs[1:])
    arguments = (few, morpher, ("full", "landmark"), judges, folder)
    with pytest.raises(KeyboardInterrupt):
        run_study(*arguments, about="two pairs")
    told: list[tuple[int, int]] = []
    found = run_study(*arguments, about="two pairs", progress=lambda *at: told.append(at))
    assert len(counted) == 3 + 2
    assert told == [(1, 2), (2, 2)]
    half = folder / "blocks/0001.npz"
    half.write_bytes(half.read_bytes()[:100])  # a block that was cut short is measured again
    again = run_study(*arguments, about="two pairs")
    assert len(counted) == 3 + 2 + 2
    for mode in ("full", "landmark"):
        np.testing.assert_array_equal(found.columns[mode]["ends"], again.columns[mode]["ends"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_block_is_noticed_before_it_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "blocks" / "0000.npz"
    columns = {"full/ends": np.arange(4.0), "parents/bound": np.zeros((4, 2))}
    study_module._keep(path, columns)
    found = study_module._kept(path)
    assert found is not None
    assert found.keys() == columns.keys()
    damage(path, kind)
    assert study_module._kept(path) is None


def test_without_the_judges_weights_a_study_has_the_figures_that_need_none(
    pairs: FilePairs, morpher: Morpher, judges: Judges, tmp_path: Path
) -> None:
    few = FilePairs(pairs.pairs[1:2])
    alone = replace(judges, embedder=None, unavailable={"likeness": "fetch them"})
    found = run_study(few, morpher, ("full", "landmark"), alone, tmp_path / "study", about="")
    assert found.columns[PARENTS] == {}
    assert found.columns["full"]["ends"].min() > 34
    strip = Strip(dict.fromkeys(("full", "landmark"), np.zeros((3, 8, 8, 3), np.uint8)))
    write_morph_report(tmp_path / "r.html", found, summarised(found), [strip], title="alone")
    assert "sharpness" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_folder_with_another_study_is_refused(
    pairs: FilePairs, morpher: Morpher, judges: Judges, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty and no study"):
        run_study(pairs, morpher, MODES, judges, tmp_path, about="")
    other = {"format_version": 1, "modes": ["full"]}
    (tmp_path / "study.json").write_text(json.dumps(other))
    with pytest.raises(OutputError, match=r"another study: .*modes"):
        run_study(pairs, morpher, MODES, judges, tmp_path, about="")


def test_the_page_shows_every_mode_with_its_figures(study: Study, tmp_path: Path) -> None:
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    strips = [Strip(dict.fromkeys(MODES, frames))] * 2
    write_morph_report(tmp_path / "r.html", study, summarised(study), strips, title="T & U")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "T &amp; U" in page
    assert page.count("data:image/jpeg") == 6
    assert "<svg" in page
    ends = summarised(study).modes["full"]["ends"]
    assert f"{ends.mean:.1f} dB" in page
    for name in study.facts["not_measured"]:
        assert name in page


def test_the_command_writes_the_page_and_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(f"a,b\n{orl_photo(3, 1)},{orl_photo(4, 1)}\n")
    out = tmp_path / "study"
    for _ in range(2):  # the second time there is nothing left to measure
        with pytest.raises(SystemExit) as left:
            main(["evaluate-morphs", str(table), "-o", str(out), "--modes", "full", "--json"])
        said = capsys.readouterr()
        assert left.value.code == 0, said.err
        assert json.loads(said.out)["figures"]["full"]["ends"]["mean"] > 34
    assert json.loads((out / "scores.json").read_text()) == json.loads(said.out)
    assert "film strip" in (out / "report.html").read_text().lower()


def test_a_mode_that_does_not_exist_lists_those_that_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["evaluate-morphs", "x.csv", "-o", str(tmp_path), "--modes", "full,best"])
    assert left.value.code == 2
    assert "there are full, latent, landmark" in capsys.readouterr().err
