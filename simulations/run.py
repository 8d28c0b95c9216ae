"""A real `flwr run` in isolation: its own Flower home, its own ports, a true exit code.

Plain `flwr run` leaves a SuperLink behind that keeps the working directory of its first run, and
Ray would run another checkout's ClientApp from there. Here the SuperLink belongs to this process,
starts in an empty folder, and is gone with all that it started when this ends, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import site
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facemorph_core.bundle.find import is_file
from facemorph_core.config import RunConfig, load_run_config
from facemorph_core.disk.cache import cache_dir
from facemorph_core.disk.output import reported_output
from facemorph_core.disk.records import read_metrics
from facemorph_core.errors import FaceMorphError, FederationError
from facemorph_core.machine.loopback import past_the_proxy
from facemorph_core.machine.progress import Progress
from facemorph_core.machine.quiet import SWITCHES
from facemorph_core.shards.cache import expanded, shard_for
from facemorph_core.shards.shard import check_size
from server.runs import RunDirectory
from server.runstate import REASON_FILE, RUNS, as_error, choose_run, read_state
from simulations.bundling import APP, inside_app, require_travelling
from simulations.family import family
from simulations.machine import federation_settings, without_another_ray

_START_SECONDS = 600.0
_ASK_FLOWER_SECONDS = 20.0
_SELDOM = 60.0
"""Asking takes a core for a second: runs that fail mostly do so soon, later ones can wait."""
_CONFIG_TOML = """[superlink]
default = "private"

[superlink.private]
address = "127.0.0.1:{port}"
insecure = true
"""
_RAY_CONFIG = "provider: {type: local}\n"
"""In the home, it keeps Ray from asking the metadata services of clouds which of them this is."""


@dataclass(frozen=True, slots=True)
class Look:
    """A look at a run while it goes on."""

    path: Path
    rounds: int
    entries: list[dict[str, Any]] = field(default_factory=list)


def simulate(
    config_file: Path,
    overrides: Sequence[str] = (),
    *,
    root: Path,
    cpus_per_site: int = 1,
    on_progress: Callable[[Look], None] = lambda _: None,
    on_prepare: Progress | None = None,
) -> Path:
    """Run the config to its last round and return its run directory.

    A run of the same config that was interrupted goes on; one that is complete is returned as
    it is. One that Flower gives up is tried again, for as long as tries bring rounds.

    Raises:
        FederationError: if the run failed; with the reason that the server gave.
    """
    config_file = config_file.resolve()
    overrides = with_absolute_paths(load_run_config(config_file, overrides), overrides)
    config = load_run_config(config_file, overrides)
    path = choose_run(root.resolve(), config)
    state = read_state(path)
    if state and state.is_over(config):
        RUNS.opened(path, config)  # says what of the config is ignored
        return path
    require_travelling(config_file)
    faces = shard_for(config.data, seed=config.seed, progress=on_prepare)
    check_size(faces.size, config.model.image_size)
    with RunDirectory.held(path, config):
        pass  # what the server would refuse is refused now, before Flower starts
    before = -1  # rounds that were there before the last try
    while True:
        reached = len(read_metrics(path))
        try:
            with _private_superlink(path) as flower:
                run_id = _submit(config_file, overrides, config, path, *flower, cpus_per_site)
                with _told_where_it_printed(run_id, path, *flower):
                    _follow(run_id, config, path, *flower, on_progress)
            return path
        except _GivenUp:
            if reached == before:
                raise
            before = reached


class _GivenUp(FederationError):
    """Flower ended the run, not the app: after the machine slept, no heartbeat is in time."""


# --- Flower ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _private_superlink(path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A SuperLink of this process alone, in simulation mode; all of it is gone afterwards."""
    port = _free_port()
    log = path / ".flower.log"
    with contextlib.ExitStack() as ending:
        kin = ending.enter_context(family())
        with reported_output(log):
            output = ending.enter_context(log.open("ab"))
        home = kin.folder
        (home / "config.toml").write_text(_CONFIG_TOML.format(port=port), encoding="utf-8")
        (home / "ray_bootstrap_config.yaml").write_text(_RAY_CONFIG, encoding="utf-8")
        (home / "work").mkdir()
        environment = kin.environment(without_another_ray(flower_environment(home)))
        superlink = kin.start(
            [
                _tool("flower-superlink"),
                *("--insecure", "--simulation", "--isolation", "subprocess"),
                *("--host", "127.0.0.1", "--port", str(port)),
                "--disable-runtime-dependency-installation",
            ],
            cwd=home / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _wait_until_open(superlink, port, log)
        yield home, environment


def flower_environment(home: Path) -> dict[str, str]:
    """An environment in which Flower installs nothing, tells nobody, and shares nothing.

    Ray listens on the loopback there, as it does on other systems than Linux: on the machine's own
    address anybody in its network could have Ray's workers run code.

    Its workers run as any other program: at the niceness of 15 that Ray gives them, a simulation
    beside one busy program hardly moves.

    NumPy computes on one thread there: Ray forks as it starts, beside the server's first figures,
    and a fork takes OpenBLAS its threads in the middle of a product, which then never ends.

    Flower's client does not start where a proxy is named that speaks SOCKS, needed or not.
    """
    bin_folder = str(Path(sys.executable).parent)
    settings = {
        "FACEMORPH_CACHE": str(cache_dir()),  # this and the user's packages stay where they are
        "PYTHONUSERBASE": site.getuserbase(),
        "HOME": str(home),
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TMPDIR": str(home),
        "RAY_worker_niceness": "0",
        REASON_FILE: str(_reason_file(home)),
        "TMPDIR": str(home),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    outside = {name: said for name, said in os.environ.items() if not _is_socks_proxy(name, said)}
    return past_the_proxy(outside | SWITCHES | settings)


def _is_socks_proxy(name: str, said: str) -> bool:
    return name.lower().endswith("_proxy") and said.lower().startswith("socks")


def _submit(
    config_file: Path,
    overrides: Sequence[str],
    config: RunConfig,
    path: Path,
    home: Path,
    environment: dict[str, str],
    cpus_per_site: int,
) -> str:
    """Hand the app to the SuperLink; the run's id."""
    settings = {
        "config": inside_app(config_file),
        # The folder is chosen: a second try goes on in it, also where resume is never.
        "overrides": " ".join(_quoted(item) for item in [*overrides, "resume=auto"]),
        "run-dir": str(path),
    }
    run_config = home / "run-config.toml"
    run_config.write_text(
        "".join(f"{name} = {_text(value)}\n" for name, value in settings.items()),
        encoding="utf-8",
    )
    federation = federation_settings(config.federation.sites, cpus_per_site)
    answer = _flwr(
        [
            *("run", str(APP), "--format", "json"),
            *("--run-config", str(run_config), "--federation-config", federation),
        ],
        home,
        environment,
    )
    return str(answer["run-id"])


def _follow(
    run_id: str,
    config: RunConfig,
    path: Path,
    home: Path,
    environment: dict[str, str],
    on_progress: Callable[[Look], None],
) -> None:
    """Watch the run directory, which costs nothing; ask Flower itself now and then."""
    asked, patience, log = time.monotonic(), _ASK_FLOWER_SECONDS, path / ".flower.log"
    while True:
        time.sleep(0.5)
        on_progress(Look(path, config.federation.rounds, read_metrics(path)))
        state = read_state(path)
        if state is not None and state.status == "completed":
            return
        if state is not None and state.status == "failed":
            raise as_error(state.error, otherwise=f"the log is {log}")
        if _reason_file(home).exists():  # it failed before it had the run directory
            raise as_error(_reason_file(home).read_text("utf-8"), otherwise=f"the log is {log}")
        if time.monotonic() - asked > patience:
            asked, patience = time.monotonic(), min(patience + _ASK_FLOWER_SECONDS, _SELDOM)
            status = _status(run_id, home, environment)
            if status.startswith("finished") and status != "finished:completed":
                said = _keep_what_it_printed(run_id, log, home, environment)
                raise _GivenUp(
                    f"Flower ended the run ({status}): {said}"
                    if said
                    else f"Flower ended the run ({status}) before the server could say why",
                    hint=f"what it printed is at the end of {log}",
                )


def _status(run_id: str, home: Path, environment: dict[str, str]) -> str:
    answer = _flwr(["list", "--run-id", run_id, "--format", "json"], home, environment)
    runs = answer.get("runs", [])
    return str(runs[0].get("status", "")) if runs else ""


def _reason_file(home: Path) -> Path:
    """Where the app leaves why it failed, also before there is a run directory."""
    return home / "reason"


@contextlib.contextmanager
def _told_where_it_printed(
    run_id: str, path: Path, home: Path, environment: dict[str, str]
) -> Iterator[None]:
    """An error names the file with the run's own output, which has more: Ray says it there."""
    try:
        yield
    except _GivenUp:
        raise  # names it already
    except FaceMorphError as error:
        log = path / ".flower.log"
        _keep_what_it_printed(run_id, log, home, environment)
        error.hint = f"{error.hint or 'see the log'}; what it printed is at the end of {log}"
        raise


def _keep_what_it_printed(run_id: str, log: Path, home: Path, environment: dict[str, str]) -> str:
    """The run's own output, at the end of ``log``: Flower keeps it apart, and loses it.

    Returns what it said of an error; empty if nothing.
    """
    printed = _called(["log", run_id, "--show"], home, environment).stdout
    # A full disk must not hide why the run failed.
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(f"\n--- what run {run_id} printed ---\n{printed}")
    return _error_in(printed)


def _flwr(words: list[str], home: Path, environment: dict[str, str]) -> dict[str, Any]:
    done = _called(words, home, environment)
    with contextlib.suppress(ValueError):
        answer = json.loads(done.stdout[done.stdout.index("{") :])
        if answer.get("success", True):
            return dict(answer)
    words_of_flower = " ".join((done.stdout + done.stderr).split())[-800:]
    raise FederationError(f"flwr {words[0]} failed: {words_of_flower}")


def _called(
    words: list[str], home: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_tool("flwr"), *words],
        cwd=home / "work",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


# --- processes -------------------------------------------------------------------------------


def _wait_until_open(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise FederationError("Flower's SuperLink did not start", hint=f"its log is {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tool(name: str) -> str:
    """A program of this environment, whether or not it is activated."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FederationError(
            f"{name} is not installed here", hint='pip install -e ".[simulation]"'
        )
    return found


# --- text ------------------------------------------------------------------------------------


def with_absolute_paths(config: RunConfig, overrides: Sequence[str]) -> list[str]:
    """``overrides`` that name folders as they are seen from here: Flower works elsewhere."""
    paths = {"data.path": config.data.path, "evaluation.shard": config.evaluation.shard}
    if is_file(config.start):
        paths["start"] = config.start
    named = [f"{key}={_text(str(expanded(path)))}" for key, path in paths.items() if path]
    return [*overrides, *named]


def _error_in(printed: str) -> str:
    """The last line of a run's output that names an error: ours, or the end of a traceback."""
    lines = [line.strip() for line in printed.splitlines()]
    ours = [line.partition("error: ")[2] for line in lines if "error: " in line]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (ours or raised or [""])[-1]


def _text(value: str) -> str:
    """A string of TOML and of YAML: JSON's, without the halves into which it splits an emoji."""
    return json.dumps(value, ensure_ascii=False)


def _quoted(item: str) -> str:
    return "'" + item.replace("'", "'\"'\"'") + "'"
