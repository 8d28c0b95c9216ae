"""Nothing is uploaded, and nothing is written where nobody looks for it.

The commands are run as users run them, and watched from outside (`watched.py`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulations.run import APP
from tests.core.faces import folder_of_orl
from tests.federation.local_grid import tiny_shard
from tests.quiet.watched import Contact, Seen, hindrance, watched

TINY = (
    *("model.image_size=32", "model.width=8", "model.latent_dim=32"),
    *("training.batch_size=4", "training.precision=float32", "training.epochs=1"),
    *("federation.local_epochs=1", "federation.sites=2", "federation.rounds=1"),
    *("evaluation.samples=4", "data.source=shard"),
)
CORE = ("-m", "facemorph_core")
DEFAULT = APP / "configs" / "default.yaml"
LOOPBACK = {"127.0.0.1", "::1", "[::ffff:127.0.0.1]"}
DEVICES = (Path("/dev"), Path("/proc"))
needs_watching = pytest.mark.skipif(bool(hindrance()), reason=hindrance() or "it can be watched")
pytestmark = pytest.mark.xdist_group("quiet")  # one place for all
reports_to_its_maker = pytest.mark.skipif(
    [int(part) for part in importlib.metadata.version("onnxruntime").split(".")[:2]] < [1, 32],
    reason="ONNX Runtime before 1.32 does not on Linux",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A user with nothing but photos. Paths are short: Ray's sockets lie below ``tmp``."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def ours(self) -> tuple[Path, ...]:
        """Folders that the user named: results, and the cache."""
        return self.root / "out", self.root / "cache"

    @property
    def environment(self) -> dict[str, str]:
        """Made from nothing: some libraries keep quiet where they see a CI's variables."""
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "FACEMORPH_CACHE": str(self.root / "cache"),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(APP),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def watch(self, *words: str | Path) -> Seen:
        """Python with these words, in the folder of results."""
        logs = self.root / "logs" / str(len(list((self.root / "logs").glob("*"))))
        command = [sys.executable, *words]
        return watched(command, logs=logs, env=self.environment, cwd=self.root / "out")

    def assert_quiet(self, seen: Seen) -> None:
        assert seen.code == 0, seen.err
        assert not seen.contacts
        assert not seen.doors
        self.assert_tidy(seen)

    def assert_tidy(self, seen: Seen) -> None:
        """Results, the cache, and what was temporary and is gone; torch leaves an empty folder."""
        declared = (*self.ours, self.tmp, *DEVICES)
        astray = {p for p in seen.made if not any(p.is_relative_to(folder) for folder in declared)}
        assert not astray
        left = [*self.home.rglob("*"), *self.tmp.rglob("*")]
        assert [path for path in left if not path.name.startswith("torchinductor_")] == []


@contextlib.contextmanager
def new_place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="q-", dir="/tmp") as root:
        place = Place(Path(root))
        for name in ("home", "tmp", "out", "cache", "logs"):
            (place.root / name).mkdir()
        yield place


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """With photos and a run of a tiny model, whose training was watched."""
    with new_place() as made:
        folder_of_orl(made.root / "photos", people=3, photos=2)
        (made.root / "pairs.csv").write_text("a,b\nphotos/s1/1.png,photos/s2/1.png\n")
        tiny_shard(made.root / "shard", count=24)
        settings = [f"--set={item}" for item in (*TINY, f"data.path={made.root / 'shard'}")]
        train = made.watch(*CORE, "train", DEFAULT, "--out", "run", *settings)
        made.assert_quiet(train)
        made.assert_quiet(made.watch(*CORE, "bundle", "run"))
        yield made


@needs_watching
@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "-m facemorph_core morph ../photos/s1/1.png ../photos/s2/1.png -o morph.mp4 -o morph.png",
        "-m facemorph_core batch ../pairs.csv --out morphs --steps 3",
        "-m facemorph_core prepare ../photos --source folder --workers 2 --out prepared",
        "-m facemorph_core evaluate --model run --shard ../shard --report scores",
        "-m facemorph_core export run --out exported",
        "-m facemorph_core bench run --seconds 0.1 --no-int8",
        "-m server publish run ../out/models --name faces",
    ],
    ids=lambda words: words.split()[2],
)
def test_a_command_asks_nobody_and_writes_where_it_was_told_to(words: str, place: Place) -> None:
    place.assert_quiet(place.watch(*words.split()))


@needs_watching
@pytest.mark.slow
def test_the_library_asks_nobody_either(place: Place) -> None:
    script = "import sys; from facemorph_core import morph; morph(*sys.argv[1:3]).save('morph.gif')"
    photos = (place.root / "photos/s1/1.png", place.root / "photos/s2/1.png")
    place.assert_quiet(place.watch("-c", script, *photos))


FETCH = """
import subprocess, sys
hub = [sys.executable, "-m", "server", "hub", "shelf", "--address", "127.0.0.1:0"]
with subprocess.Popen([*hub, "--insecure-loopback"], stdout=subprocess.PIPE, text=True) as serving:
    url = serving.stdout.readline().removeprefix("listening on ").strip()
    morph = [sys.executable, "-m", "facemorph_core", "morph", *sys.argv[1:], "-o", "fetched.gif"]
    done = subprocess.run([*morph, "--model", f"{url}/faces"], stdout=subprocess.DEVNULL)
    serving.terminate()
print(url)
sys.exit(done.returncode)
"""


@needs_watching
@pytest.mark.slow
def test_a_fetch_asks_the_hub_that_was_named_and_nobody_else(place: Place) -> None:
    place.assert_quiet(place.watch("-m", "server", "publish", "run", "shelf", "--name", "faces"))
    photos = (place.root / "photos/s1/1.png", place.root / "photos/s2/1.png")
    seen = place.watch("-c", FETCH, *photos)
    assert seen.code == 0, seen.err
    port = int(seen.out.rpartition(":")[2])
    assert {(contact.host, contact.port) for contact in seen.contacts} == {("127.0.0.1", port)}
    assert seen.doors <= LOOPBACK
    place.assert_tidy(seen)


PACKAGES = """
import os, pathlib, sys
from facemorph_core.packages import python_archive
from tests.core.packages.indexes import release_of, serving, simple_index, source_archive
folder = pathlib.Path.cwd()
source = source_archive(folder, told=folder / "it-was-run")
(folder / "into").mkdir()
os.environ |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
with serving(simple_index(toy_net=source)) as (url, asked):
    os.environ["PIP_INDEX_URL"] = f"{url}/simple"
    python_archive(release_of(source), folder / "into")
print(url)
sys.exit((folder / "it-was-run").exists())
"""


@needs_watching
@pytest.mark.slow
def test_a_package_is_asked_of_the_mirror_that_is_set_and_of_nobody_else(place: Place) -> None:
    seen = place.watch("-c", PACKAGES)
    assert seen.code == 0, seen.err
    port = int(seen.out.rpartition(":")[2])
    assert {(contact.host, contact.port) for contact in seen.contacts} == {("127.0.0.1", port)}
    assert seen.doors <= LOOPBACK  # what pip leaves in a home is pip's


@needs_watching
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_simulation_stays_on_the_machine(place: Place) -> None:
    """Flower and Ray talk to each other, and let nobody in from outside."""
    settings = [f"--set={item}" for item in (*TINY, f"data.path={place.root / 'shard'}")]
    seen = place.watch("-m", "simulations", "run", DEFAULT, "--cpus=2", "--runs=runs", *settings)
    assert seen.code == 0, seen.err
    assert {contact.host for contact in seen.contacts} <= LOOPBACK
    assert seen.doors
    assert seen.doors <= LOOPBACK
    place.assert_tidy(seen)


# --- what the watch would see ----------------------------------------------------------------


@needs_watching
@reports_to_its_maker
@pytest.mark.slow
def test_the_watch_sees_what_native_code_tells_its_maker() -> None:
    with new_place() as place:
        seen = place.watch("-c", "import onnxruntime, time; time.sleep(20)")  # it takes about 10
        assert seen.contacts
        assert "deviceid" in {path.name for path in seen.made}
        with pytest.raises(AssertionError):
            place.assert_tidy(seen)


STRAY = """
import os, socket, sys
open(sys.argv[1], "w").close()
os.unlink(sys.argv[1])
door = socket.socket()
door.bind(("0.0.0.0", 0))
door.listen()
if os.fork() == 0:
    os.setsid()  # as a daemon
    if os.fork() == 0:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("198.51.100.7", 9))
        away = socket.socket(socket.AF_INET6)
        away.setblocking(False)
        away.connect_ex(("2001:db8::7", 443))
"""


@needs_watching
def test_the_watch_sees_daemons_and_files_that_are_gone() -> None:
    with new_place() as place:
        stray = place.root / "elsewhere"
        seen = place.watch("-c", STRAY, stray)
        assert seen.contacts == {
            Contact("UDP", "198.51.100.7", 9),
            Contact("TCP", "2001:db8::7", 443),
        }
        assert seen.doors == {"0.0.0.0"}
        assert stray in seen.made
        assert not stray.exists()
