"""What PHOTO[=WEIGHT] means: what exists first, then patterns, then weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facemorph_core.cli.main import main
from facemorph_core.cli.photo_arguments import given_photos, names_of, natural_key
from facemorph_core.errors import PhotoError
from tests.core.faces import GRACE_HOPPER, astronaut


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = ["people/10.jpg", "people/9.PNG", "people/1 (2).jpeg", "people/.DS_Store"]
    files += ["people/._9.png", "people/notes.txt", "people/sub/inner.jpg", "shots/b.jpg"]
    files += ["shots/a[1].jpg", "shots/c=3.jpg", "shots/x*.jpg", "d=2/e.png", "empty/readme"]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def meant(*texts: str) -> list[tuple[str, float]]:
    found = given_photos(texts)
    return [(photo.as_posix(), each.weight) for each in found for photo in each.photos]


def test_a_folder_means_its_photos_in_natural_order_and_says_what_it_leaves_out(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["people/1 (2).jpeg", "people/9.PNG", "people/10.jpg"]
    assert meant("people") == [(name, 1.0) for name in names]
    said = capsys.readouterr().err
    assert said == "people: 3 photos, without 1 folder, 2 hidden files, 1 other file\n"
    assert meant("people/=2.5") == [(name, 2.5) for name in names]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shots/[bx]*.jpg", [("shots/b.jpg", 1), ("shots/x*.jpg", 1)]),
        ("shots/?.jpg=2", [("shots/b.jpg", 2)]),
        ("shots/a[1].jpg", [("shots/a[1].jpg", 1)]),
        ("shots/a[1].jpg=4", [("shots/a[1].jpg", 4)]),
        ("shots/x*.jpg", [("shots/x*.jpg", 1)]),
        ("shots/c=*", [("shots/c=3.jpg", 1)]),
        ("shots/c=3.jpg", [("shots/c=3.jpg", 1)]),
        ("shots/c=3.jpg=.5", [("shots/c=3.jpg", 0.5)]),
        ("d=2", [("d=2/e.png", 1)]),
        ("d=2=3", [("d=2/e.png", 3)]),
        ("people/s*", [("people/sub/inner.jpg", 1)]),
        ("people/**/1*.jp*g", [("people/1 (2).jpeg", 1), ("people/10.jpg", 1)]),
        ("*/**/inner.jpg", [("people/sub/inner.jpg", 1)]),
        ("not-there.jpg=3", [("not-there.jpg", 3)]),
    ],
)  # fmt: skip
def test_what_exists_is_what_is_meant(
    text: str, expected: list[tuple[str, float]], place: Path
) -> None:
    assert meant(text) == expected


def test_no_photo_is_meant_twice_by_one_pattern(place: Path) -> None:
    names = [name for name, _ in meant("people/**")]
    assert sorted(set(names)) == sorted(names)
    assert len(names) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("empty", r"empty: holds no photo \(but 1 other file\)"),
        ("*.tif", r"\*\.tif: no file has such a name"),
        ("*.tif=2", r"\*\.tif: no file has such a name"),
        ("empty/*", r"holds no photo"),
    ],
)
def test_what_means_no_photo_is_refused(text: str, words: str, place: Path) -> None:
    with pytest.raises(PhotoError, match=words):
        given_photos([text])


def test_a_pattern_with_a_weight_that_means_nothing(place: Path) -> None:
    with pytest.raises(typer.BadParameter, match="no weight"):
        given_photos(["shots/*.jpg=much"])


def test_a_result_is_named_after_folders_and_found_photos(place: Path) -> None:
    (place / "z.jpg").touch()
    found = given_photos(["people", "shots/b*", "."])
    assert names_of(found) == [Path("people"), Path("shots/b.jpg"), place]


@given(st.lists(st.tuples(st.sampled_from("aAbä"), st.integers(0, 10**20)), unique=True))
def test_numbers_in_names_count_as_numbers(parts: list[tuple[str, int]]) -> None:
    names = [Path(f"{letter}{number}.jpg") for letter, number in parts]
    found = sorted(names, key=natural_key)
    assert [(p.stem[0].casefold(), int(p.stem[1:])) for p in found] == sorted(
        (letter.casefold(), number) for letter, number in parts
    )


@given(names=st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1)))
def test_any_names_have_an_order(names: list[str]) -> None:
    paths = [Path(name) for name in names]
    backwards = list(reversed(paths))
    assert sorted(paths, key=natural_key) == sorted(backwards, key=natural_key)


def test_the_average_of_a_folder_lies_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in it, where it would be one of its photos the next time."""
    (tmp_path / "people").mkdir()
    Image.fromarray(astronaut()).save(tmp_path / "people" / "face 10.png")
    (tmp_path / "people" / "face 9.jpg").write_bytes(GRACE_HOPPER.read_bytes())
    monkeypatch.chdir(tmp_path / "people")
    options = ["--mode", "landmark", "--size", "64", "--json"]
    for words in (
        ["average", "."],
        ["average", f"{tmp_path}/people", "face 9*=2", "-o", "../m.png"],
    ):
        with pytest.raises(SystemExit) as left:
            main([*words, *options])
        assert left.value.code == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[0]["written"] == [str(tmp_path / "people-average.png")]
    assert [Path(photo).name for photo in said[0]["photos"]] == ["face 9.jpg", "face 10.png"]
    assert said[0]["weights"] == [0.5, 0.5]
    assert said[1]["weights"] == [0.25, 0.25, 0.5]
    with pytest.raises(SystemExit) as left:
        main(["average", "face 9*", *options])
    assert left.value.code == 2
    assert "two photos or more" in capsys.readouterr().err


def test_of_a_folder_photos_without_a_face_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A photo that was named itself has to have one."""
    (tmp_path / "people").mkdir()
    Image.fromarray(astronaut()).save(tmp_path / "people/eileen.png")
    Image.open(GRACE_HOPPER).save(tmp_path / "people/grace.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "people/wall.png")
    (tmp_path / "people/cut.jpg").write_bytes(GRACE_HOPPER.read_bytes()[:2000])
    words = ["average", str(tmp_path / "people"), "--size", "64", "--json", "-o"]
    with pytest.raises(SystemExit) as left:
        main([*words, str(tmp_path / "mean.png")])
    said = capsys.readouterr()
    assert left.value.code == 0, said.err
    report = json.loads(said.out)
    assert [Path(each).name for each in report["photos"]] == ["eileen.png", "grace.png"]
    assert report["weights"] == [0.5, 0.5]
    for name in ("wall.png: no face found", "cut.jpg: "):
        assert f"warning: left out, {tmp_path}/people/{name}" in said.err
    with pytest.raises(SystemExit) as left:
        main([*words, str(tmp_path / "none.png"), str(tmp_path / "people/wall.png")])
    assert left.value.code == 4
    (tmp_path / "people/grace.png").unlink()
    with pytest.raises(SystemExit) as left:
        main([*words, str(tmp_path / "one.png")])
    assert left.value.code == 4
    assert "of 3 photos 1 can be used" in capsys.readouterr().err
