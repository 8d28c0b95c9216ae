"""The tutorials name commands, options and settings that are; that of morphs runs as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import Command, Context, Group
from PIL import Image

from facemorph_core.cli.main import cli, command_of
from facemorph_core.config import load_run_config
from facemorph_core.learning.privacy.limits import load_limits
from simulations.__main__ import app as simulations
from tests.test_docs import DOCS, blocks

ROOT = DOCS.parent
PAGES = sorted((DOCS / "tutorials").glob("*.md"))


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command of a page, without comments and the text of here-documents."""
    for block in blocks(page, "sh"):
        joined = re.sub(r"<<END\n.*?^END$", "", block.replace("\\\n", " "), flags=re.M | re.S)
        for line in joined.splitlines():
            for part in re.split(r"\s(?:&&|\|)\s", line):
                yield shlex.split(part, comments=True)


def parsed(command: Command, words: list[str]) -> Context:
    """What click makes of the words; nothing is run."""
    given = list(words)
    while isinstance(command, Group):
        inner = command.get_command(Context(command), given.pop(0))
        assert inner is not None, f"no such command: {words}"
        command = inner
    return command.make_context(command.name, given)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_the_tutorial_can_be_given(
    page: Path, tmp_path: Path, monkeypatch
) -> None:
    for name in ("anna.jpg", "ben.jpg"):
        (tmp_path / name).touch()
    for name in ("photos", "shard", "orl-shard"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    counted = 0
    for listed in commands(page):
        words = [word.replace("/srv/faces/", "") for word in listed]
        if words[:1] == ["facemorph-core"]:
            parsed(cli, words[1:])
        elif words[:3] == ["python", "-m", "simulations"]:
            context = parsed(command_of(simulations), words[3:])
            load_run_config(context.params["config"], context.params["set_"] or [])
        else:
            continue
        counted += 1
    assert counted >= 2


def test_the_limits_of_the_tutorial_are_limits(tmp_path: Path) -> None:
    page = (DOCS / "tutorials" / "site.md").read_text("utf-8")
    text = re.search(r"site\.yaml <<END\n(.*?)^END$", page, re.M | re.S)
    assert text is not None
    (tmp_path / "site.yaml").write_text(text[1])
    limits = load_limits(tmp_path / "site.yaml", needed=True)
    assert (limits.privacy, limits.max_epsilon) == ("required", 4)


def test_the_node_that_joins_has_the_options_of_the_tutorial() -> None:
    (joining,) = [w for w in commands(DOCS / "tutorials/site.md") if w[0] == "flower-supernode"]
    told = subprocess.run(
        [Path(sys.executable).with_name("flower-supernode"), "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"},
    ).stdout
    assert all(word in told for word in joining if word.startswith("--"))


@pytest.mark.slow
def test_the_tutorial_of_morphs_runs(tmp_path: Path) -> None:
    import matplotlib as mpl
    import skimage.data

    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "anna.jpg")
    grace = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    (tmp_path / "ben.jpg").write_bytes(grace.read_bytes())
    page = DOCS / "tutorials" / "morph.md"
    shell = [block for block in blocks(page, "sh") if "pip install" not in block]
    found = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, given in (
        (("bash", "-s"), "\n".join(["set -e", *shell])),
        ((sys.executable, "-"), "\n".join(blocks(page, "python"))),
    ):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            input=given,
            env=os.environ | {"PATH": found},
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert {"anna-ben.gif", "morph.mp4", "modes.jpg", "even.webp", "whole.gif"} <= made
    assert {"mostly-anna.png", "round.gif", "there-and-back.gif"} <= made
