"""A real federation on loopback: SuperLink, executor and SuperNodes as processes of their own,
TLS, node keys, the app as its bundle. The commands are those of docs/deployment.md.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from facemorph_core.bundle.read import open_bundle
from facemorph_core.rundir import read_metrics
from server.coordinator.certificates import Credentials, create
from server.runs import read_state
from simulations.family import Family, family
from simulations.run import APP, flower_environment
from tests.federation.local_grid import FEW, tiny_shard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(420),
    pytest.mark.xdist_group("deployment"),  # one coordinator for all tests here
]

TINY = (
    "model.image_size=32 model.width=8 model.latent_dim=32 training.batch_size=4 "
    "training.precision=float32 federation.deadline=60 federation.evaluate_every=0 "
    "federation.quorum=1 evaluation.samples=4 "
)


@dataclass
class Federation:
    """A coordinator and its sites; everything ends with the test."""

    folder: Path
    keys: Credentials
    port: int
    kin: Family
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = self.kin.start(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            cwd=self.home(name),
            env=flower_environment(self.home(name))
            | {"FACEMORPH_CACHE": str(self.folder / f"cache-{name}")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def home(self, name: str) -> Path:
        path = self.folder / f"home-{name}"
        path.mkdir(exist_ok=True)
        return path

    def start_coordinator(self) -> None:
        secret = self.folder / "superexec.secret"
        secret.write_text(secrets.token_hex(24))
        secret.chmod(0o600)
        self.start(
            "superlink",
            "flower-superlink",
            *("--ssl-ca-certfile", str(self.keys.ca), "--ssl-certfile", str(self.keys.server)),
            *("--ssl-keyfile", str(self.keys.server_key), "--enable-supernode-auth"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--database", str(self.folder / "state.db"), "--isolation", "process"),
            *("--superexec-auth-secret-file", str(secret)),
            "--disable-runtime-dependency-installation",
        )
        wait_for_port(self.port)
        self.start(
            "superexec",
            "flower-superexec",
            *("--runtime-api-address", f"127.0.0.1:{self.port}"),
            *("--root-certificates", str(self.keys.ca)),
            *("--superexec-auth-secret-file", str(secret)),
        )

    def start_site(self, name: str, shard: Path) -> None:
        self.start(
            name,
            "flower-supernode",
            *("--root-certificates", str(self.keys.ca), "--superlink", f"127.0.0.1:{self.port}"),
            *("--auth-supernode-private-key", str(self.keys.site_key(name))),
            *("--host", "127.0.0.1", "--port", str(free_port())),
            *("--node-config", self.node_config(name, shard)),
        )

    def node_config(self, name: str, shard: Path) -> str:
        """What a site says of itself; its limits lie beside what it keeps."""
        state = shard.with_name(f"{shard.name}.state")
        state.mkdir(exist_ok=True)
        (state / "site.yaml").write_text(f"privacy: optional\n{FEW}")
        return f'data-dir="{shard}" site="{name}" head-dir="{self.folder / "heads"}"'

    def flwr(self, *words: str) -> dict:
        home = self.home("operator")
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "site"\n[superlink.site]\naddress = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{self.keys.ca}"\n'
        )
        done = subprocess.run(
            [str(Path(sys.executable).parent / "flwr"), *words, "--format", "json"],
            cwd=home,
            env=flower_environment(home),
            capture_output=True,
            text=True,
            check=False,
        )
        answer = json.loads(done.stdout[done.stdout.index("{") :])
        assert answer.get("success", True), answer
        return answer

    def wait_for_sites(self, count: int) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            nodes = self.flwr("supernode", "list", "site")["nodes"]
            if sum(node["status"] == "online" for node in nodes) == count:
                return
        raise AssertionError(nodes)

    def submit(self, run: Path, *, rounds: int) -> None:
        settings = {
            "config": "configs/deployment.yaml",
            "overrides": TINY + f"federation.rounds={rounds}",
            "run-dir": str(run),
        }
        file = self.folder / "run.toml"
        file.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in settings.items()))
        self.flwr("run", str(APP), "site", "--run-config", str(file))

    def wait(self, run: Path, done, *, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if done(read_state(run)):
                return
            time.sleep(0.5)
        tails = [p.read_text(errors="replace")[-3000:] for p in sorted(self.folder.glob("*.log"))]
        raise AssertionError("\n=====\n".join(tails))

    def kill(self, name: str) -> None:
        """SIGKILL to a node and what it started, as a power cut does."""
        node = psutil.Process(self.processes.pop(name).pid)
        for process in [*node.children(recursive=True), node]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """One coordinator and two sites for all tests here: each takes some seconds to start."""
    folder, names = tmp_path_factory.mktemp("federation"), ["clinic-a", "clinic-b"]
    keys = create(folder / "keys", hosts=["127.0.0.1", "localhost"], sites=names)
    with family() as kin:
        made = Federation(folder, keys, free_port(), kin)
        made.start_coordinator()
        for number, name in enumerate(names):
            made.flwr("supernode", "register", f"{keys.site_key(name)}.pub", "site")
            tiny_shard(folder / f"shard-{name}", seed=number)
            made.start_site(name, folder / f"shard-{name}")
        made.wait_for_sites(len(names))
        yield made


def test_a_site_without_a_registered_key_is_not_let_in(federation):
    folder = federation.folder
    create(folder / "keys", hosts=["127.0.0.1"], sites=["stranger"])
    federation.start_site("stranger", folder / "shard-clinic-a")
    deadline = time.monotonic() + 60
    while federation.processes["stranger"].poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    said = (folder / "stranger.log").read_text()
    assert federation.processes["stranger"].poll() not in (None, 0), said
    assert len(federation.flwr("supernode", "list", "site")["nodes"]) == 2


def test_a_federation_over_tls_with_node_keys_survives_a_dead_site(federation):
    run = federation.folder / "run"
    federation.submit(run, rounds=2)
    federation.wait(run, lambda state: state is not None and state.round >= 1)
    federation.kill("clinic-b")
    federation.wait(run, lambda state: state.status != "running")
    state, rounds = read_state(run), read_metrics(run)
    assert state.status == "completed", state.error
    assert [entry["round"] for entry in rounds] == [0, 1, 2]
    assert rounds[1]["used"] == ["clinic-a", "clinic-b"]
    assert rounds[2]["used"] == ["clinic-a"]
    assert open_bundle(run / "model.facemorph").manifest.training["rounds"] == 2
    # Nothing of a site's disk is in what the coordinator has.
    for file in ("metrics.jsonl", "report.html", "state.json"):
        assert "shard-clinic" not in (run / file).read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise AssertionError(f"nothing listens on {port}")
