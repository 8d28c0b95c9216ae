"""docs/deployment.md as it stands there: a real federation on loopback, from its first command to
the morph. SuperLink, executor, SuperNodes and hub are processes of their own, with TLS and keys.

Every command of the page is typed into the shell of whoever the page speaks to. Whatever has to
happen is waited for; the limits guard against hanging and are never the expectation. What the page
sets is set by the page alone: the shells know a path, a home, and a proxy that leads nowhere.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from site import getuserbase

import psutil
import pytest
from filelock import FileLock
from PIL import Image

from facemorph_core.bundle.read import open_bundle
from facemorph_core.disk.hashing import core_sha256
from facemorph_core.disk.private import PRIVATE_FILE
from facemorph_core.disk.records import read_entries, read_metrics
from facemorph_core.shards.sources import orl
from server.runstate import read_state
from simulations.family import Family, family
from simulations.run import APP
from tests.federation.page import Command, commands_of
from tests.modes import lax_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("deployment"),  # one federation for all tests here
]

PAGE = APP / "docs" / "deployment.md"
COORDINATOR, SITE, RUN = "1. The coordinator", "2. A site", "3. A run"
HUB, READER = "4. The model hub", "Whoever morphs"

NOT_RUN = {
    "git clone ... && cd facemorph-federated && make install && source .venv/bin/activate": (
        "the checkout is a copy of this one, and its environment the one that runs the tests"
    ),
    "git clone ... && cd facemorph-federated && git checkout TAG    # that the coordinator names": (
        "a site needs no checkout once its environment is there"
    ),
    'python3 -m venv .venv && source .venv/bin/activate && pip install ".[site]"': (
        "it would fetch gigabytes"
    ),
    "sudo install -m 644 keys/nginx.conf /etc/nginx/conf.d/federation.conf && sudo nginx -t "
    "&& sudo systemctl reload nginx": "an nginx of the test's own serves the file",
}

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed: no proxy stands here")
NGINX_SETTINGS = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  include FILE;
}
"""
"""What a distribution has around the page's file, for a user who may not write into /var.

One process, as a master would write its title over the mark of the family in its environment.
"""
PROTOBUF = {"content-type": "application/protobuf", "accept": "application/protobuf"}

HANGS = 400.0  # seconds; nothing here takes a quarter of them on a slow machine
OVERRIDES = (
    "model.width=8 model.latent_dim=32 training.batch_size=4 "
    "training.precision=float32 federation.deadline=600 federation.evaluate_every=0 "
    "federation.quorum=1 evaluation.samples=4"
)


@dataclass
class Terminal:
    """The shell of one person: commands are typed one after the other, and all must succeed."""

    kin: Family
    folder: Path
    """Where it was opened."""
    values: Mapping[str, str]
    """What stands here for the values of the page's examples."""
    environment: Mapping[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.home = self.folder.with_name(f"{self.folder.name}.home")
        self.home.mkdir()
        self.folder.mkdir(exist_ok=True)
        self.bash = self.kin.start(
            ["bash", "--noprofile", "--norc"],
            cwd=self.folder,
            env=bare_environment(self.home) | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def type(self, command: str) -> str:
        """Wait until ``command`` is done; what it printed, and what it left running may print."""
        assert self.bash.stdin is not None
        script = self.home / f"{next(self.numbers):02d}.sh"
        output, status = script.with_suffix(".log"), script.with_suffix(".status")
        script.write_text(f"{command}\n")
        line = (
            f". {script} < /dev/null > {output} 2>&1; echo $? > {status}.new; mv {status}{{.new,}}"
        )
        self.bash.stdin.write(f"{line}\n".encode())
        self.bash.stdin.flush()
        wait_until(status.exists, lambda: f"{command}\n{self.said()}")
        assert status.read_text() == "0\n", f"{command}\n{output.read_text()}"
        return output.read_text()

    def said(self) -> str:
        """Everything that was printed in it."""
        logs = sorted(self.home.glob("*.log"))
        return "\n".join(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def processes(self, name: str = "") -> list[psutil.Process]:
        """What runs in it under ``name``, without what these started."""
        started = psutil.Process(self.bash.pid).children(recursive=True)
        return [each for each in started if name in " ".join(_words(each)[:2])]

    def kill(self) -> None:
        """SIGKILL to all that runs in it, as a power cut does."""
        shell = psutil.Process(self.bash.pid)
        for process in [shell, *shell.children(recursive=True)]:  # first what would start others
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@dataclass
class Federation:
    """The people of the page."""

    folder: Path
    kin: Family
    port: str
    """Of SuperLink, for the coordinator."""
    entrance: str
    """The port of the proxy, for sites."""
    coordinator: Terminal
    sites: dict[str, Terminal] = field(default_factory=dict)

    @property
    def checkout(self) -> Path:
        """Of the coordinator."""
        return self.coordinator.folder

    def srv(self, name: str) -> Path:
        """What is /srv on the machine of ``name``."""
        return self.folder / f"srv-{name}"

    def open_site(self, name: str, *, first_person: int) -> Terminal:
        """Everything that the page tells a site to do, by the site ``name``."""
        key = self.checkout / "keys" / "sites" / name
        values = {
            "/srv/": f"{self.srv(name)}/",
            "clinic-a": name,
            "flower.example.org": "localhost",
            "8443": self.entrance,
            "9094": free_port(),
        }
        some_photos(self.srv(name) / "faces" / "photos", first_person)
        site = Terminal(self.kin, self.folder / name, values, WITH_A_DEAD_PROXY)
        stale_checkout(site.folder)
        handed_over(site.folder / "keys", self.checkout / "keys" / "ca.crt", key)
        self.sites[name] = site
        for command in of_section(SITE):
            site.type(command.with_values(values))
        return site

    def flwr(self, *words: str) -> dict:
        """What Flower says to the operator, for the tests to read."""
        answer = self.coordinator.type(f"flwr {' '.join(words)} --format json")
        return json.loads(answer[answer.index("{") :])

    def sites_that_are(self, status: str) -> int:
        """How many sites are "online", or "registered" and were never there."""
        nodes = self.flwr("supernode", "list", "site")["nodes"]
        return sum(node["status"] == status for node in nodes)

    def run(self, name: str, *, rounds: int) -> Path:
        """The page's run, small, in a directory of its own."""
        where = self.coordinator.values["/srv/"] + "federation/"
        start, look = of_section(RUN)
        command = start.with_values({"/srv/federation/run-1": f"{where}{name}"})
        given = f"{OVERRIDES} federation.rounds={rounds}"
        assert command.endswith("\"'")
        self.coordinator.type(f'{command[:-1]} overrides="{given}"\'')
        assert "site" in look.text
        return Path(where) / name

    def releases(self, site: str) -> int:
        """How often ``site`` wrote down that it answers."""
        ledger = self.srv(site) / "faces" / "shard.state" / "privacy.jsonl"
        return len([line for line in read_entries(ledger) if line["kind"] == "plain_release"])

    def at_its_ledger(self, site: str) -> FileLock:
        """Holds up ``site`` at the moment before it computes what it will answer."""
        ledger = self.srv(site) / "faces" / "shard.state" / "privacy.jsonl"
        return FileLock(f"{ledger}.lock", mode=PRIVATE_FILE)

    def status(self, port: str, path: str, method: str = "POST") -> int:
        """What is answered to an empty request, of someone who has the authority's certificate."""
        trusted = ssl.create_default_context(cafile=self.checkout / "keys" / "ca.crt")
        asked = http.client.HTTPSConnection("localhost", int(port), timeout=HANGS, context=trusted)
        with contextlib.closing(asked):
            asked.request(method, path, headers=PROTOBUF)
            return asked.getresponse().status

    def wait(self, done: Callable[[], object]) -> None:
        """Until ``done``, with all that was said if that does not come."""
        people = [self.coordinator, *self.sites.values()]
        wait_until(done, lambda: "\n".join(each.said() for each in people))


# Only the loopback is used here: with no_proxy missing from the page nothing would work.
WITH_A_DEAD_PROXY = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "intra.example.org",
}


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """A coordinator and two sites, by the page."""
    folder = tmp_path_factory.mktemp("federation")
    with family() as kin:
        port = free_port()
        entrance = free_port() if NGINX else port
        values = {
            "/srv/": f"{folder / 'srv-coordinator'}/",
            "flower.example.org": "localhost",
            "8000": port,
            "8443": entrance,
            "8765": free_port(),
        }
        checkout = copied_checkout(folder / "facemorph-federated")
        coordinator = Terminal(kin, checkout, values, WITH_A_DEAD_PROXY)
        made = Federation(folder, kin, port, entrance, coordinator)
        for command in of_section(COORDINATOR):
            coordinator.type(command.with_values(values))
            if command.text.startswith("keep flower-superlink"):
                made.wait(lambda: is_open(port))
        if NGINX:
            settings = coordinator.home / "nginx.conf"
            file = checkout / "keys" / "nginx.conf"
            settings.write_text(NGINX_SETTINGS.replace("FILE", str(file)))
            coordinator.type(f"{NGINX} -p {coordinator.home} -c {settings} &")
            made.wait(lambda: is_open(entrance))
        for person, name in ((1, "clinic-a"), (8, "clinic-b")):
            made.open_site(name, first_person=person)
        made.wait(lambda: made.sites_that_are("online") == 2)
        yield made


@pytest.fixture(scope="module")
def finished(federation) -> Path:
    """A run of two rounds. In the second a site dies at work, and then the executor."""
    a, b = federation.at_its_ledger("clinic-a"), federation.at_its_ledger("clinic-b")
    with contextlib.ExitStack() as held_up:
        held_up.enter_context(a)
        run = federation.run("run-1", rounds=2)
        federation.wait(lambda: federation.releases("clinic-b") == 1)
        held_up.enter_context(b)  # it answers in round 1 and comes no further in round 2
        a.release()
        federation.wait(lambda: federation.releases("clinic-a") == 2)
        federation.sites["clinic-b"].kill()
    [executor] = federation.coordinator.processes("flower-superexec")
    executor.suspend()  # it is there and takes nothing
    assert federation.run("run-1", rounds=2) == run
    _, look = of_section(RUN)
    assert "pending" in federation.coordinator.type(look.text)
    for process in [*executor.children(recursive=True), executor]:
        process.kill()
    federation.wait(lambda: len(read_metrics(run)) == 3 and read_state(run).status != "running")
    return run


# --- the page ---------------------------------------------------------------------------------


def test_every_command_of_the_page_is_typed_here():
    commands = commands_of(PAGE)
    assert {each.section for each in commands} == {COORDINATOR, SITE, RUN, HUB, READER}
    assert {each.language for each in commands} == {"sh"}
    assert {each.text for each in commands} >= set(NOT_RUN)


def test_a_site_without_a_registered_key_is_not_let_in(federation):
    federation.coordinator.type("python -m server certificates keys/ --host a.org --site stranger")
    faces = "faces/shard"  # prepared already: what is asked here is another thing
    shutil.copytree(federation.srv("clinic-a") / faces, federation.srv("stranger") / faces)
    stranger = federation.open_site("stranger", first_person=1)
    federation.wait(lambda: "is started again" in stranger.said())
    stranger.kill()
    assert federation.sites_that_are("online") == 2
    assert len(federation.flwr("supernode", "list", "site")["nodes"]) == 2


def test_what_the_page_exports_is_what_flower_runs_with(federation):
    exported = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "no_proxy": "intra.example.org,127.0.0.1,localhost,::1",
    }
    people = [federation.coordinator, *federation.sites.values()]
    programs = [each for person in people for each in person.processes("flower-super")]
    assert {Path(each.cmdline()[1]).name for each in programs} == {
        "flower-superlink",
        "flower-superexec",
        "flower-supernode",
    }
    for program in programs:
        assert exported.items() <= program.environ().items()


@needs_nginx
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/openapi.json",
        "/v1/control/list-runs",
        "/v1/runtime/get-nodes",
        "/v1/fleet/../control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/v1/fleet/..%2fcontrol/list-runs",
        "/v1/fleet/..//control/list-runs",
    ],
)
def test_a_site_reaches_nothing_but_the_fleet(federation, path):
    assert federation.status(federation.entrance, path) == 403


@needs_nginx
def test_the_proxy_tells_whether_superlink_is_well_and_superlink_would_answer_all(federation):
    assert federation.status(federation.entrance, "/health", "GET") == 200
    assert federation.status(federation.port, "/v1/control/list-runs") == 200


def test_both_ends_print_the_digest_of_the_same_library(federation):
    for site in ("clinic-a", "clinic-b"):
        assert core_sha256() in federation.sites[site].said()


def test_a_run_goes_on_without_a_dead_site_and_after_the_executor_died(finished):
    state, rounds = read_state(finished), read_metrics(finished)
    assert state.status == "completed", state.error
    assert [entry["round"] for entry in rounds] == [0, 1, 2]
    assert rounds[1]["used"] == ["clinic-a", "clinic-b"]
    assert rounds[2]["used"] == ["clinic-a"]
    assert open_bundle(finished / "model.facemorph").manifest.training["rounds"] == 2


def test_nothing_of_a_site_s_disk_is_in_what_the_coordinator_has(federation, finished):
    for file in ("metrics.jsonl", "report.html", "state.json"):
        assert "srv-clinic" not in (finished / file).read_text()


def test_a_killed_executor_is_started_again(federation, finished):
    assert "flower-superexec ended (137) and is started again" in federation.coordinator.said()
    assert federation.coordinator.processes("flower-superexec")


def test_the_model_is_published_and_morphed_with(federation, finished):
    coordinator, values = federation.coordinator, federation.coordinator.values
    for command in of_section(HUB):
        coordinator.type(command.with_values(values))
    federation.wait(lambda: is_open(values["8765"]))
    reader = Terminal(federation.kin, federation.folder / "reader", values)
    keys = federation.checkout / "keys" / "ca.crt", federation.checkout / "reader.token"
    handed_over(reader.folder, *keys)
    for photo, name in zip(orl(), ("anna.jpg", "ben.jpg"), strict=False):
        Image.open(photo.path).save(reader.folder / name)
    for command in of_section(READER):
        reader.type(command.with_values(values))
    assert (reader.folder / "anna-ben.gif").stat().st_size > 0
    assert lax_in(reader.folder / "hub.tokens") == []
    coordinator.type("kill $!; wait $!")
    assert not is_open(values["8765"]), "the hub outlived its keeper"


def test_what_the_page_puts_on_disks_is_the_owner_s_alone(federation, finished):
    for name in ("keys", "superexec.secret", "state.db", ".flwr"):
        assert lax_in(federation.checkout / name) == []
    for site in ("clinic-a", "clinic-b"):
        faces = federation.srv(site) / "faces"
        for folder in (
            faces / "shard",
            faces / "shard.state",
            federation.sites[site].home / ".local",
        ):
            assert lax_in(folder) == []


def test_no_secret_can_be_committed_or_travels_in_the_bundle(federation, finished):
    checkout = federation.checkout
    secrets = [checkout / "superexec.secret", *(checkout / "keys").rglob("*")]
    for folder in ("client", "server", "configs"):  # what the bundle is made of
        for secret in filter(Path.is_file, secrets):
            (checkout / folder / "keys").mkdir(exist_ok=True)
            shutil.copy(secret, checkout / folder / "keys")
        shutil.copy(checkout / "state.db", checkout / folder)
        (checkout / folder / "site.yaml").touch()
        (checkout / folder / "hub.tokens").touch()
        shard = federation.srv("clinic-a") / "faces"
        shutil.copytree(shard / "shard", checkout / folder / "shard")
        shutil.copytree(shard / "shard.state", checkout / folder / "shard.state")
    seen = federation.coordinator.type("git status --porcelain --untracked-files=all")
    assert seen == ""
    federation.coordinator.type("flwr build")
    [bundle] = checkout.glob("*.fab")
    with zipfile.ZipFile(bundle) as archive:
        inside = set(archive.namelist())
    tracked = set(federation.coordinator.type("git ls-files").split())
    assert "client/app.py" in inside
    assert {name for name in inside if not name.startswith(".info")} <= tracked


# --- parts ------------------------------------------------------------------------------------


def of_section(section: str) -> list[Command]:
    """Its commands, but for those that cannot be run here."""
    return [c for c in commands_of(PAGE) if c.section == section and c.text not in NOT_RUN]


def bare_environment(home: Path) -> dict[str, str]:
    """A person's who set nothing; and what tells Python where to find what is tested."""
    kept = ("LANG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "COVERAGE_PROCESS_START")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONUSERBASE": getuserbase(),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "TMPDIR": str(home),
        "COLUMNS": "200",
    }


def stale_checkout(folder: Path) -> None:
    """Another version's, in the folder that a site stands in: what is installed is what counts."""
    (folder / "facemorph_core").mkdir()
    (folder / "facemorph_core" / "__init__.py").write_text("raise SystemExit('not what runs')")


def copied_checkout(out: Path) -> Path:
    """What the coordinator clones, as git has it."""
    parts = ("client", "configs", "server", "pyproject.toml", "README.md", "LICENSE", ".gitignore")
    out.mkdir()
    for name in parts:
        if (APP / name).is_dir():
            shutil.copytree(APP / name, out / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(APP / name, out)
    me = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as cloned"]):
        subprocess.run(["git", *me, *words], cwd=out, check=True)
    return out


def handed_over(folder: Path, *files: Path) -> None:
    """Copies as somebody else's machine has them."""
    folder.mkdir(exist_ok=True)
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())


def some_photos(folder: Path, first_person: int) -> None:
    """As few as a site trains on: four photos of each of five people; two more are kept aside."""
    for photo in orl():
        if first_person <= int(photo.person[1:]) < first_person + 7 and int(photo.path.stem) <= 4:
            (folder / photo.person).mkdir(parents=True, exist_ok=True)
            Image.open(photo.path).save(folder / photo.person / f"{photo.path.stem}.png")


def wait_until(done: Callable[[], object], told: Callable[[], str]) -> None:
    deadline = time.monotonic() + HANGS
    while not done():
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def is_open(port: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 1):
        return True
    return False


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []
