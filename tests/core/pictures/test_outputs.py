"""Names of outputs, several of them at once, and what is there before."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.errors import OutputError
from facemorph_core.machine.memory import available_memory
from facemorph_core.machine.threads import Abandoned, in_turn, taken_by_all
from facemorph_core.morphing.provenance import MorphProvenance
from facemorph_core.pictures.ffmpeg import NAMED_BY
from facemorph_core.pictures.media import write_film, write_frames
from facemorph_core.pictures.outputs import Film, Output, Saved, check_output, check_room
from facemorph_core.pictures.series import series_of

MADE = MorphProvenance("full", "a model", "ab" * 32)


def frames(count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, 20, 30, 3), dtype=np.uint8)


def film(count: int = 3, *, made: Callable[[], Iterator[NDArray[np.uint8]]] | None = None) -> Film:
    return Film(made or (lambda: iter(frames(count))), (20, 30, 3), alphas=[*range(count)])


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["100%done.png", "50%.gif", "a%d.gif", "%.webp", "-x.gif", "%s.mp4"]
)
def test_a_percent_sign_or_a_dash_is_a_name_like_others(tmp_path: Path, name: str) -> None:
    assert write_frames(frames(), tmp_path / name) == [tmp_path / name]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("pattern", "first", "last"),
    [
        ("a-%d.png", "a-0.png", "a-11.png"),
        ("%03d.png", "000.png", "011.png"),
        ("50%%-%02d.PNG", "50%-00.PNG", "50%-11.PNG"),
        ("100%of-%04d.png", "100%of-0000.png", "100%of-0011.png"),
    ],
)
def test_patterns_are_those_of_ffmpeg(pattern: str, first: str, last: str) -> None:
    series = series_of(Path("some%d") / pattern)
    assert series is not None
    names = series.files(12)
    assert (str(names[0]), str(names[-1])) == (f"some%d/{first}", f"some%d/{last}")


def test_a_name_with_two_numbers_is_refused() -> None:
    with pytest.raises(OutputError, match="it has %d and %03d") as refused:
        check_output("a-%d-%03d.png")
    assert "%%" in str(refused.value.hint)


@pytest.mark.parametrize("letters", ["x" * 251, "\u9854" * 83])
def test_a_name_may_be_as_long_as_the_disk_allows(tmp_path: Path, letters: str) -> None:
    [path] = write_frames(frames(), tmp_path / f"{letters}.gif")
    assert path.stat().st_size > 0
    for longer in (f"{letters}{letters}.gif", f"{letters}{letters}%d.png"):
        with pytest.raises(OutputError, match="name too long"):
            write_frames(frames(), tmp_path / longer)


# --- what is there before ----------------------------------------------------------------------


@pytest.mark.parametrize("out", ["frames/", "f-%d.png"])
def test_a_shorter_series_leaves_nothing_of_a_longer_one(tmp_path: Path, out: str) -> None:
    name = f"{tmp_path}/{out}"
    write_frames(frames(9), name, provenance=MADE)
    folder = series_of(name).folder  # type: ignore[union-attr]
    (folder / "notes.txt").write_text("mine")
    (folder / "frame-999.png").write_bytes(b"mine")  # beyond a gap
    with pytest.raises(OutputError, match="exists already"):
        write_frames(frames(4), name)
    again = write_frames(frames(4), name, force=True)
    assert {path.name for path in folder.iterdir()} == {
        *(path.name for path in again),
        "notes.txt",
        "frame-999.png",
    }


def test_frames_that_are_not_ours_are_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (9, 9)).save(folder / f"frame-{number:03d}.png")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match=r"frame-004\.png and 1 more would stay") as refused:
        write_frames(frames(4), f"{folder}/", force=True)
    assert "another folder" in str(refused.value.hint)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_photo_that_would_be_cleared_away_is_an_input(tmp_path: Path) -> None:
    paths = write_frames(frames(5), f"{tmp_path}/", provenance=MADE)
    with pytest.raises(OutputError, match="is read here"):
        write_frames(frames(3), f"{tmp_path}/", force=True, inputs=[paths[4]])
    assert all(path.exists() for path in paths)


def test_a_series_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def broken() -> Iterator[NDArray[np.uint8]]:
        yield frames()[0]
        raise KeyboardInterrupt

    old = write_frames(frames(), f"{tmp_path}/old/", provenance=MADE)
    before = [path.read_bytes() for path in old]
    for name in ("old/", "new/"):
        with pytest.raises(KeyboardInterrupt):
            write_film(film(made=broken), [Output(f"{tmp_path}/{name}")], Saved(force=True))
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert [path.read_bytes() for path in sorted((tmp_path / "old").iterdir())] == before


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".apng"])
def test_a_named_pipe_is_written_to_and_stays(tmp_path: Path, suffix: str) -> None:
    pipe, read = tmp_path / f"pipe{suffix}", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_frames(frames(), pipe)
    reader.join(timeout=60)
    assert pipe.is_fifo()
    [plain] = write_frames(frames(), tmp_path / f"plain{suffix}")
    assert read == [plain.read_bytes()]


def test_a_link_becomes_the_file_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "target.gif").write_bytes(b"mine")
    (tmp_path / "link.gif").symlink_to(tmp_path / "target.gif")
    write_frames(frames(), tmp_path / "link.gif", force=True)
    assert (tmp_path / "target.gif").read_bytes() == b"mine"


# --- several at once ---------------------------------------------------------------------------


def test_all_outputs_come_from_frames_that_are_made_once(tmp_path: Path) -> None:
    made = []

    def counted() -> Iterator[NDArray[np.uint8]]:
        for frame in frames():
            made.append(1)
            yield frame

    names = ["m.gif", "m.webp", "m.apng", "m.mp4", "f/"]
    outputs = [
        *(Output(f"{tmp_path}/{name}") for name in names),
        Output(tmp_path / "s.jpg", "sheet"),
    ]
    outcomes = write_film(film(made=counted), outputs, Saved())
    assert len(made) == 3
    assert all(path.exists() for outcome in outcomes for path in outcome.files)
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in names[:4]:
        [path] = write_frames(frames(), alone / name)
        assert path.read_bytes() == (tmp_path / name).read_bytes()


def test_what_one_output_lacks_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAMED_BY, str(tmp_path / "nothing"))
    outputs = [Output(tmp_path / name) for name in ("a.mp4", "b.gif", "gone/c.gif", "d.apng")]
    outcomes = write_film(film(), outputs, Saved())
    said = [str(outcome.problem) for outcome in outcomes]
    assert f"{NAMED_BY} names {tmp_path / 'nothing'}, which does not work" in said[0]
    assert "gone does not exist" in said[2]
    assert (said[1], said[3]) == ("None", "None")
    assert {path.name for path in tmp_path.iterdir()} == {"b.gif", "d.apng"}


def test_an_ffmpeg_that_lacks_the_encoder_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho ' V....D libx264   H.264'\n")
    script.chmod(0o755)
    monkeypatch.setenv(NAMED_BY, str(script))

    def never() -> Iterator[NDArray[np.uint8]]:
        yield pytest.fail("frames were made")

    [outcome] = write_film(film(made=never), [Output(tmp_path / "m.webm")], Saved())
    assert "cannot encode with libvpx-vp9" in str(outcome.problem)
    assert ".gif" in str(outcome.problem and outcome.problem.hint)


@given(count=st.integers(0, 30), takers=st.integers(1, 4), stop=st.integers(0, 30))
def test_every_taker_is_given_everything(count: int, takers: int, stop: int) -> None:
    def some(items: Iterator[int]) -> list[int]:
        return [each for each, _ in zip(items, range(stop), strict=False)]

    found = taken_by_all(range(count), [list, some, *([list] * (takers - 1))])
    everything = list(range(count))
    assert found == [everything, everything[:stop], *([everything] * (takers - 1))]


def test_a_taker_that_fails_fails_alone_and_at_the_end() -> None:
    taken = []

    def broken(items: Iterator[int]) -> None:
        raise ValueError(f"at {next(items)}")

    with pytest.raises(ValueError, match="at 0"):
        taken_by_all(range(9), [broken, taken.extend])
    assert taken == list(range(9))


def test_takers_go_when_what_they_wait_for_will_not_come() -> None:
    left = []

    def taker(items: Iterator[int]) -> None:
        try:
            list(items)
        except Abandoned:
            left.append(1)
            raise

    def broken() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taken_by_all(broken(), [taker, taker])
    assert left == [1, 1]


def test_jobs_wait_until_there_is_room_for_what_they_make() -> None:
    begun = []
    arriving = in_turn((lambda n=n: begun.append(n) or n for n in range(50)), threads=2)
    assert [next(arriving) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(begun) <= 5 + 2
    arriving.close()  # type: ignore[attr-defined]


# --- what is too large -------------------------------------------------------------------------


def test_a_film_without_room_is_refused_with_figures(tmp_path: Path) -> None:
    def asked(count: int, side: int, name: str, *, making: int = 0) -> None:
        large = Film(lambda: (), (side, side, 3), alphas=[0.0] * count)
        kind = "sheet" if name.startswith("sheet") else "film"
        check_room(large, [Output(tmp_path / name, kind)], making=making)  # type: ignore[arg-type]

    asked(200, 1000, "m.mp4")
    with pytest.raises(
        OutputError, match=r"10000000 frames of 3000x3000 .* GB of disk, and"
    ) as told:
        asked(10_000_000, 3000, "m.apng")
    assert "--size, or fewer --steps" in str(told.value.hint)
    with pytest.raises(OutputError, match=r"GB of memory, and .* are free"):
        asked(3, 500, "m.mp4", making=10**15)
    with pytest.raises(OutputError, match=r"too large for \.webp, which ends at 16383"):
        asked(3, 20_000, "m.webp")
    with pytest.raises(OutputError, match=r"too large for \.jpg"):
        asked(300, 2000, "sheet.jpg")
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from facemorph_core.machine.describe import peak_memory
from facemorph_core.pictures.media import write_film
from facemorph_core.pictures.outputs import Film, Output, Saved
count, folder = int(sys.argv[1]), sys.argv[2]
SIDE = 1500
wide = np.add.outer(np.arange(SIDE), np.arange(2 * SIDE))[..., None] // [16, 20, 24] % 256
wide = wide.astype(np.uint8)
def frames():
    for number in range(count):
        yield wide[:, 7 * number : 7 * number + SIDE].copy()
film = Film(frames, (SIDE, SIDE, 3), alphas=[0.0] * count)
outputs = [Output(f"{folder}/{name}") for name in ("f/", "m.apng", "m.mp4", "m.gif")]
assert not any(each.problem for each in write_film(film, outputs, Saved(force=True)))
print(peak_memory())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    """A quarter of the frames takes as much: all of them would take 260 MB more, each twice."""
    peaks = []
    for count in (14, 52):  # from the fewest that fill what a GIF keeps in memory
        command = [sys.executable, "-c", MEMORY, str(count), str(tmp_path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(ended.stdout))
    assert peaks[1] - peaks[0] < 5 * 1500 * 1500 * 3 / 2**20


def test_the_memory_that_is_left_is_known_and_less_than_there_is() -> None:
    free = available_memory()
    assert free is not None
    assert 0 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_gif_that_is_smaller_than_asked_for_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("facemorph_core.pictures.gif.GIF_SIDE", 16)
    with caplog.at_level(logging.WARNING):
        write_frames(frames(), tmp_path / "m.gif")
    assert "16 pixels a side instead of 30" in caplog.text
