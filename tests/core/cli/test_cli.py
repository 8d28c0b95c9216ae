from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from facemorph_core.cli import edge
from facemorph_core.cli.main import GROUP, cli, first_line, main
from facemorph_core.config.load import dump_run_config
from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import BudgetExhausted, MissingExtra, OutputError

OWN = {"bundle", "evaluate", "hub", "inspect", "morph", "prepare", "train", "weights"}


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as info:
        main(arguments)
    assert isinstance(info.value.code, int)
    return info.value.code


def in_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "facemorph_core", *arguments]
    return subprocess.run(line, capture_output=True, text=True)


# --- finding commands ------------------------------------------------------------------------


def test_without_arguments_it_shows_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert called() == 0
    shown = capsys.readouterr().out
    for words in (*OWN, "facemorph-core morph anna.jpg ben.jpg", "facemorph-core prepare photos/"):
        assert words in shown
    assert called("--help") == 0
    assert capsys.readouterr().out == shown


def test_every_command_that_we_declare_is_listed_with_a_line_of_help() -> None:
    own = {entry.name: entry for entry in entry_points(group=GROUP) if entry.name in OWN}
    assert set(own) == OWN
    for entry in own.values():
        line = first_line(entry)
        assert 10 < len(line) < 90, (entry.name, line)
        assert not line.startswith("`")


@pytest.mark.parametrize("name", sorted(OWN))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(name, "--help") == 0
    shown = capsys.readouterr().out
    assert f"Usage: facemorph-core {name}" in shown
    assert "\\[" not in shown


def test_listing_commands_imports_none_of_them() -> None:
    probe = (
        "import sys\n"
        "from facemorph_core.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted(sys.modules), file=sys.stderr)"
    )
    outcome = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert outcome.returncode == 0
    loaded = outcome.stderr
    for name in ("facemorph_core.cli.morph", "typer", "numpy", "pydantic", "torch", "rich"):
        assert f"'{name}'" not in loaded


def test_a_warning_goes_where_stderr_is_by_then() -> None:
    """A progress bar stands in for stderr, and keeps itself below what is written."""
    script = (
        "import io, logging, sys; from facemorph_core.cli import edge; edge.show_warnings(); "
        "sys.stderr = io.StringIO(); logging.getLogger('x').warning('busy'); "
        "print(sys.stderr.getvalue(), end='')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("warning: busy\n", "")


def test_a_library_that_logs_wrongly_ends_no_command() -> None:
    script = (
        "import logging; from facemorph_core.cli import edge; edge.show_warnings(); "
        "logging.getLogger('x').warning('%d faces', 'no')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "warning: %d faces\n")


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    import facemorph_core

    assert called("--version") == 0
    assert capsys.readouterr().out == f"facemorph-core {facemorph_core.__version__}\n"


def test_a_mistyped_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("morf") == 2
    assert "there is no command 'morf'; did you mean 'morph'?" in capsys.readouterr().err
    assert called("xyzzy") == 2
    offered = capsys.readouterr().err
    assert "there is no command 'xyzzy'; there are " in offered
    assert {"bundle", "evaluate", "morph", "prepare"} <= set(re.findall(r"[a-z]+", offered))


def test_arguments_and_examples_are_shown_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("morph", "--help") == 0
    shown = capsys.readouterr().out
    assert "  Examples:\n    facemorph-core morph anna.jpg ben.jpg\n" in shown
    assert "Photos, in the order of the morph." in shown
    assert shown.count("Arguments:") == 1


# --- the edge --------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_an_error_is_a_message_with_a_hint_and_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = BudgetExhausted(spent=7.1, after=8.4, limit=8, delta=1e-5)
    assert edge.exit_code_of(raising(error)) == 8
    assert capsys.readouterr().err == (
        "error: the next release would raise epsilon from 7.10 to 8.40, past the limit of 8.00 "
        "(delta=1e-05)\n"
        " hint: stop here, or start a new run with a larger privacy.max_epsilon\n"
    )
    missing = MissingExtra("train", needed_for="training")
    assert edge.exit_code_of(raising(missing)) == 3
    assert 'pip install "facemorph-core[train]"' in capsys.readouterr().err


def test_what_nobody_foresaw_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert edge.exit_code_of(raising(KeyError("z"))) == 70
    said = capsys.readouterr().err
    assert "KeyError: 'z'" in said
    assert "run again with --debug" in said
    assert "Traceback" not in said


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert edge.exit_code_of(raising(OutputError("no")), debug=True) == 12
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "error: no" in said


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (click.Abort(), 130, "stopped"),
        (OSError(errno.ENOSPC, "No space", "x.gif"), 12, "x.gif cannot be written: the disk is"),
        (click.UsageError("bad flag"), 2, "error: bad flag"),
        (
            PermissionError(errno.EACCES, "Permission denied", "x"),
            71,
            "error: x: Permission denied",
        ),
        (OSError(errno.ENOSPC, "No space"), 12, "the result cannot be written: the disk is full"),
        (OSError(errno.ENAMETOOLONG, "long", "x" * 300), 71, "xxx...xxx"),
        (OSError(errno.EIO, "Input/output error"), 71, "the system refuses to read or to write"),
        (OSError("of a library"), 71, "of a library"),
        (MemoryError(), 71, "the memory is full"),
        (MemoryError("9 GiB"), 71, "not enough memory: 9 GiB"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edge.exit_code_of(raising(error)) == code
    assert words in capsys.readouterr().err


def test_exit_codes_of_commands_pass_through() -> None:
    assert edge.exit_code_of(lambda: 5) == 5
    assert edge.exit_code_of(lambda: "done") == 0
    assert edge.exit_code_of(lambda: True) == 0


def test_run_leaves_with_the_code_and_finds_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--debug"])
    with pytest.raises(SystemExit) as info:
        edge.run(raising(OutputError("no")))
    assert info.value.code == 12
    assert "Traceback" in capsys.readouterr().err


def test_debug_may_stand_anywhere_before_the_end_of_options() -> None:
    assert edge.take_debug(["morph", "a", "--debug", "b"]) == (["morph", "a", "b"], True)
    assert edge.take_debug(["morph", "--", "--debug"]) == (["morph", "--", "--debug"], False)
    assert edge.take_debug([]) == ([], False)


def test_a_reader_that_has_gone_is_no_error() -> None:
    script = (
        "import sys\nfrom facemorph_core.cli import edge\n"
        "edge.run(lambda: [print(i) for i in range(10**6)])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


# --- bundle and inspect ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="a run's weights are made here")
    from safetensors.torch import save_file

    from facemorph_core.learning.models import build_model

    folder = tmp_path_factory.mktemp("run")
    model = {"kind": "ae", "latent_dim": 8, "image_size": 32, "width": 8}
    config = RunConfig.model_validate({"name": "small", "model": model})
    (folder / "config.yaml").write_text(dump_run_config(config))
    (folder / "checkpoints").mkdir()
    torch.manual_seed(0)
    weights = build_model(config.model).state_dict()
    save_file(weights, folder / "checkpoints/round-0001.safetensors")
    return folder


def test_a_run_becomes_a_bundle_that_can_be_inspected(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("bundle", str(run)) == 0
    assert capsys.readouterr().out.startswith(f"{run}/model.facemorph: ")
    assert called("inspect", str(run), "--check") == 0
    shown = capsys.readouterr().out
    assert "every byte verified; reproduces its test vector" in shown
    assert "without differential privacy" in shown
    assert called("inspect", str(run), "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["kind"], facts["training"]) == ("small", "ae", {"rounds": 1})
    assert called("inspect", str(run), "--card") == 0
    assert capsys.readouterr().out.startswith("# small")


def test_a_bundle_is_not_written_over_a_file_unasked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.facemorph"
    out.write_bytes(b"mine")
    assert called("bundle", str(run), "-o", str(out)) == 12
    assert "exists already" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert called("bundle", str(run), "-o", str(out), "--round", "1", "--force") == 0
    assert called("bundle", str(run), "--round", "7") == 6
    assert "has no round 7; there are: 1" in capsys.readouterr().err


def test_a_damaged_bundle_is_refused_by_every_command(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("bundle", str(run), "-o", str(tmp_path / "m.facemorph")) == 0
    data = bytearray((tmp_path / "m.facemorph").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "m.facemorph").write_bytes(data)
    capsys.readouterr()
    assert called("inspect", str(tmp_path / "m.facemorph")) == 6
    said = capsys.readouterr().err
    assert "m.facemorph is damaged or not a facemorph bundle" in said
    assert " hint: " in said


def test_the_group_is_a_click_group() -> None:
    assert isinstance(cli, click.Group)
    assert set(cli.list_commands(click.Context(cli))) >= OWN
