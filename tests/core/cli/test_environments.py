"""Commands where names, letters, streams and systems are not as usual: a sentence in the end.

Public reports:
    | tarindexer 9, py3createtorrent 33, dangerzone 768: names of files that are no UTF-8
    | enlighten 13, aider 4582: streams that cannot take a bar's or a name's letters
    | streamlink 5919, stable-diffusion-docker 77, AutoGPT 12025: names of more than 255 bytes
    | pip 4255, conductr-cli 502: started in a folder that is gone
    | paper-docx 53, PetitePass 38, simplemonitor 216: what Windows does not have or do
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import facemorph_core
from facemorph_core.cli import edge
from facemorph_core.cli.main import COMPLETION, OWN, cli
from facemorph_core.disk.names import fitting
from facemorph_core.disk.output import named_after, written_whole
from facemorph_core.machine.printable import printable
from facemorph_core.morphing.batch import jobs_of
from facemorph_core.morphing.pair_table import FilePair
from tests.core.faces import GRACE_HOPPER, orl_photo
from tests.core.systems import on_linux, on_posix
from tests.starting import after

UNFORESEEN = 70
SMALL = ["--mode", "landmark", "--steps", "2", "--size", "64"]
NO_TEXT = os.fsdecode(b"gr\xff")
EMOJI = "\N{GRINNING FACE}"
POSIX = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
LETTERS = {
    "UTF-8": {"LC_ALL": "C.UTF-8"},
    "C": {"LC_ALL": "C"},
    "POSIX": POSIX,
    "Latin-1": {"PYTHONIOENCODING": "latin-1"},
    "a Windows console's": {"PYTHONIOENCODING": "cp437"},
    "ASCII": {"PYTHONIOENCODING": "ascii:strict"},
}


def started(
    words: list[str], folder: Path, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """A command as a shell starts it."""
    command = [sys.executable, "-m", "facemorph_core", *words]
    settings = {**os.environ, **environment}
    settings.pop("PYTHONUNBUFFERED", None)  # what is not taken shall stay in the streams
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, check=False)


def called(words: list[str]) -> int:
    """The exit code of a command in this process."""
    return edge.exit_code_of(
        lambda: cli.main(words, prog_name=OWN, complete_var=COMPLETION, standalone_mode=False)
    )


def picture(path: Path, person: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(orl_photo(person, 1)) as photo, path.open("wb") as file:
        photo.save(file, "PNG")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    picture(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- names that are no text ------------------------------------------------------------------


@on_linux
@pytest.mark.parametrize("letters", LETTERS)
def test_a_name_that_is_no_text_is_read_named_after_and_told_in_any_letters(letters, place):
    picture(place / f"{NO_TEXT}.png", 4)
    done = started(["morph", "a.png", f"{NO_TEXT}.png", *SMALL], place, **LETTERS[letters])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(rb"a-gr_.gif: 2 frames from a.png to gr\xff.png by")
    assert (place / "a-gr_.gif").exists()
    out = f"{NO_TEXT}-{EMOJI}.gif"
    words = ["morph", "a.png", f"{NO_TEXT}.png", *SMALL, "-o", out]
    assert json.loads(started([*words, "--json"], place, **POSIX).stdout)["written"] == [
        os.fsencode(out).decode("ascii", "surrogateescape")
    ]
    assert (place / out).exists()
    refused = started(words, place, **LETTERS[letters])
    assert refused.returncode == 12
    assert rb"gr\xff-" in refused.stderr
    assert refused.stderr.count(b"\n") == 2


@on_linux
def test_folders_whose_names_are_no_text_hold_photos_shards_and_tables(place, capsys):
    for person in (3, 4):
        picture(place / f"{NO_TEXT}{person}" / f"{NO_TEXT}.png", person)
    table = place / NO_TEXT / "pairs.csv"
    picture(place / NO_TEXT / "b.png", 5)
    table.write_text("a,b\nb.png,b.png\nb.png,nobody.png\n", encoding="utf-8")
    assert called(["prepare", ".", "--out", f"shard-{NO_TEXT}", "--workers", "1"]) == 0
    assert rf"shard-gr\xff{os.linesep}" in capsys.readouterr().out
    index = (place / f"shard-{NO_TEXT}" / "index.csv").read_text(encoding="utf-8")
    assert r"gr\udcff3" in index
    made = f"made-{NO_TEXT}"
    assert called(["batch", str(table), *SMALL, "--out", made, "--json"]) == 14
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert (facts["made"], facts["folder"]) == (1, made)
    assert NO_TEXT in facts["failed"][0]["problem"]
    assert r"gr\xff/nobody.png" in said.err
    entries = (place / made / "made.jsonl").read_text(encoding="ascii")
    assert NO_TEXT in json.loads(entries.splitlines()[1])["problem"]


COMMANDS = [
    "morph a.png {}.png",
    "morph {}.png a.png",
    "morph a.png a.png --model {}",
    "morph a.png a.png -o {}/x.gif",
    "morph a.png a.png -o x.gif --strip {}/x.png",
    "average a.png {}.png=2",
    "average a.png a.png -o {}/x.png",
    "grid a.png a.png a.png {}.png",
    "batch {}.csv --out made",
    "prepare {} --out shard",
    "prepare {} --source celeba --out shard",
    "evaluate --shard {} --metrics psnr",
    "evaluate-morphs {} --out study",
    "bundle {}",
    "export {}",
    "inspect {}",
    "bench {}",
    "bench --photo {}",
    "hub list {}",
    "hub fetch hub://127.0.0.1:1/{}@1",
    "{}",
    "morph --{}",
]


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(NO_TEXT, marks=on_linux, id="no text"),
        pytest.param("n" * 300, id="300 letters"),
        pytest.param(EMOJI * 75, id="300 bytes"),
        pytest.param("n/" * 3000, id="a long path"),
        pytest.param("a\x1b[2J\nb", id="what a terminal acts on"),
    ],
)
def test_whatever_name_is_given_for_what_is_not_there_it_is_a_sentence(words, name, place, capsys):
    before = sorted(place.iterdir())
    code = called([word.format(name) for word in words.split()])
    said = capsys.readouterr().err
    assert code not in (0, UNFORESEEN), said
    assert said.startswith("error: ")
    assert said == printable(said, lines=True)
    assert sorted(place.iterdir()) == before


# --- names that are long ---------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1)


@given(NAMES, st.integers(4, 80))
def test_part_of_a_name_fits_everywhere_and_is_its_beginning(text, most):
    part = fitting(text, most)
    assert len(part.encode()) <= most  # which what is no text could not be
    assert fitting(part, most) == part
    assert not set(part) & set('<>:"/\\|?*\n\x1b')
    assert not part.endswith((" ", "."))
    assert all(new in (old, "_") for new, old in zip(part, text, strict=False))


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=5))
def test_names_of_a_batch_are_short_and_no_two_are_the_same(pairs):
    files = [job.file for job in jobs_of([FilePair(Path(a), Path(b)) for a, b in pairs], ".webp")]
    assert len(set(files)) == len(files)
    assert all(len(file.encode()) < 140 for file in files)
    assert all(len(named_after([Path(a)] * 4).encode()) < 250 for a, _ in pairs)


@on_linux
@pytest.mark.parametrize("letter", ["n", "é", EMOJI, "\N{COMBINING ACUTE ACCENT}"])
def test_a_name_as_long_as_the_disk_takes_can_be_given_and_no_longer_one(letter, place, capsys):
    longest = letter * (250 // len(letter.encode()))
    for name in (longest, os.fsdecode(b"\xff" * 250)):
        assert called(["morph", "a.png", "a.png", *SMALL, "-o", f"{name}.gif"]) == 0
        assert (place / f"{name}.gif").exists()
    capsys.readouterr()
    for out in (longest * 2 + ".gif", longest * 2 + "/", longest * 2 + "%03d.png"):
        assert called(["morph", "a.png", "a.png", *SMALL, "-o", out]) in (12, edge.REFUSED)
        said = capsys.readouterr().err
        assert "too long" in said
        assert "hint: most disks take names of 255 bytes" in said
    assert len(list(place.iterdir())) == 3  # no half of anything


@on_linux
def test_what_long_names_become_is_named_after_them(place):
    names = [EMOJI * 62 + f"{number}.png" for number in range(4)]
    for name in names:
        picture(place / name)
    assert called(["grid", *names, "--side", "2", "--mode", "landmark", "--size", "64"]) == 0
    assert (place / f"{'-'.join([EMOJI * 15] * 4)}-grid.png").exists()


# --- streams ---------------------------------------------------------------------------------


@on_posix
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["--help", "morph --help", "inspect starter", "completion bash"])
def test_a_reader_that_has_gone_ends_every_command_in_the_same_way(words, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "facemorph_core", *words.split()],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (edge.READER_GONE, b"")


@on_linux
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("words", "out", "err", "code", "said"),
    [
        ("inspect starter", "/dev/full", None, 12, b"standard output cannot be written: the disk"),
        ("--help", "/dev/full", None, 12, b"cannot be written: the disk is full"),
        ("inspect nobody", None, "/dev/full", 6, b""),
        ("inspect starter", None, "/dev/full", 0, b"every byte verified"),
        ("inspect starter", "/dev/full", "/dev/full", 12, b""),
    ],
)
def test_a_full_disk_below_a_stream_is_told_on_the_other_and_in_the_code(
    words, out, err, code, said, unbuffered
):
    devices = [Path(out or os.devnull), Path(err or os.devnull)]
    with devices[0].open("wb") as full_out, devices[1].open("wb") as full_err:
        done = subprocess.run(
            [sys.executable, "-m", "facemorph_core", *words.split()],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full_out if out else subprocess.PIPE,
            stderr=full_err if err else subprocess.PIPE,
            check=False,
        )
    assert done.returncode == code
    assert said in (done.stdout or b"") + (done.stderr or b"")
    assert b"Exception" not in (done.stderr or b"")


@on_posix
@pytest.mark.parametrize("words", ["--help", "inspect starter"])
def test_a_stream_that_is_open_for_reading_alone_is_a_sentence(words):
    with Path(os.devnull).open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "facemorph_core", *words.split()],
            stdout=stream,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == edge.REFUSED
    assert done.stderr.decode().count("\n") == 1
    assert "Bad file descriptor" in done.stderr.decode()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8", "shift_jis", "utf-16"])
@given(text=st.text(st.characters(exclude_categories=()), max_size=20))
def test_no_text_is_too_strange_for_a_stream(encoding, text):
    bytes_ = io.BytesIO()
    stream = io.TextIOWrapper(bytes_, encoding, errors="facemorph_core.spelled")
    stream.write(text)
    stream.flush()
    assert len(bytes_.getvalue().decode(encoding)) >= len(text.replace("\r\n", "\n"))


# --- the machine -----------------------------------------------------------------------------


NOBODY = "54321"
"""An id that no file knows. It may look everywhere, since the tests' own Python may be root's."""
BECOME = [
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    "--bounding-set=-all,+dac_read_search",
]


@on_linux
@pytest.mark.skipif(
    not shutil.which("setpriv") or os.name != "posix" or os.getuid() != 0,
    reason="only root becomes somebody else, with setpriv",
)
@pytest.mark.parametrize("home", [None, "", "/nonexistent", "read-only"])
def test_a_user_whom_no_file_knows_morphs_without_a_home(home, place):
    place.chmod(0o777)
    shutil.copy(GRACE_HOPPER, "grace.jpg")  # about whom nothing is doubtful
    (place / "read-only").mkdir(mode=0o555)
    unset = {"HOME", "XDG_CACHE_HOME", "FACEMORPH_CACHE"}
    settings = {name: value for name, value in os.environ.items() if name not in unset}
    settings |= {} if home is None else {"HOME": home}
    words = ["morph", "grace.jpg", "grace.jpg", *SMALL, "-o", "x.mp4", "-o", "x.gif"]
    command = [*BECOME, sys.executable, "-m", "facemorph_core", *words]
    done = subprocess.run(command, cwd=place, env=settings, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (place / "x.mp4").stat().st_uid == int(NOBODY)
    command = [*BECOME, sys.executable, "-m", "facemorph_core", "hub", "fetch", "hub://[::1]:1/x@1"]
    done = subprocess.run(command, cwd=place, env=settings, capture_output=True, check=False)
    assert done.returncode == 12
    assert b"hint: set FACEMORPH_CACHE to a folder that can be written" in done.stderr


@on_posix
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("inspect starter", 0),
        ("morph ../a.png ../a.png -o ../b.mp4", 0),
        ("morph a.png a.png", 4),
        ("prepare ../album --out ../shard", edge.REFUSED),
    ],
)
def test_a_folder_that_is_gone_beneath_a_command_is_told_where_it_matters(words, code, place):
    picture(place / "album" / "a.png")
    (place / "gone").mkdir()
    command = [sys.executable, "-m", "facemorph_core", *words.split()]
    command += SMALL if "-o" in command else []
    gone = "import os\nos.chdir('gone')\nos.rmdir('../gone')"
    done = subprocess.run(after(gone, command), cwd=place, capture_output=True, check=False)
    if code:
        assert done.returncode == code
        assert done.stderr.startswith(b"error: ")
    assert done.returncode in (code, edge.REFUSED)


UNKNOWN_ELSEWHERE = """
import os, sys
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios"):
    sys.modules[name] = None
import signal
del signal.SIGHUP, os.sched_getaffinity, os.O_DIRECTORY
sync, opened = os.fsync, os.open
def fsync(number):
    os.write(number, b"")  # as on Windows, only what is open for writing is synced
    sync(number)
def open_(path, flags, *more, **others):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, flags, *more, **others)
os.fsync, os.open = fsync, open_
from facemorph_core.cli.main import main
main()
"""


@on_posix
@pytest.mark.parametrize(
    "words",
    [
        "morph a.png b.png --mode landmark --steps 2 --size 64 -o x.mp4 -o frames/",
        "average a.png b.png --size 64",
        "batch pairs.csv --mode landmark --steps 2 --size 64 --out made",
        "prepare album --workers 1 --out shard",
        "export starter --out networks",
        "inspect starter --check",
    ],
)
def test_what_only_some_systems_have_is_not_needed(words, place):
    """A stand-in for Windows, as far as Linux can be one: what is not there cannot be called."""
    picture(place / "b.png", 4)
    picture(place / "album" / "a.png")
    (place / "pairs.csv").write_text("a,b\na.png,b.png\n", encoding="utf-8")
    command = [sys.executable, "-c", UNKNOWN_ELSEWHERE, *words.split()]
    done = subprocess.run(command, cwd=place, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    "words",
    [
        "morph a.png b.png --mode landmark --steps 2 --size 64 -o x.mp4 --json",
        "batch pairs.csv --mode landmark --steps 2 --size 64 --out made",
        "prepare album --workers 1 --out shard",
    ],
)
def test_no_file_of_ours_depends_on_the_letters_of_the_system(words, place):
    picture(place / "b.png", 4)
    picture(place / "album" / "a.png")
    (place / "pairs.csv").write_text("a,b\na.png,b.png\n", encoding="utf-8")
    watched = ["-X", "warn_default_encoding", "-W", "always::EncodingWarning"]
    command = [sys.executable, *watched, "-m", "facemorph_core", *words.split()]
    done = subprocess.run(command, cwd=place, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stderr.decode().splitlines()
    ours = str(Path(facemorph_core.__file__).parent)
    assert [line for line in lines if "EncodingWarning" in line and line.startswith(ours)] == []


def test_a_file_that_is_being_made_has_a_name_that_its_disk_takes(tmp_path):
    for stem in (EMOJI * 62, "é" * 125, "n" * 250, "a:b"):
        with written_whole(tmp_path / f"{stem}.x") as temporary:
            assert len(os.fsencode(temporary.name)) < 120
            temporary.write_bytes(b"x")
        assert (tmp_path / f"{stem}.x").read_bytes() == b"x"
