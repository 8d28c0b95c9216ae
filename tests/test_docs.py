"""What the docs tell people to type works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language; "" for commands."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [block for marked, block in fenced if marked == language]


@pytest.mark.slow
def test_every_command_on_the_page_of_morphs_runs(tmp_path: Path) -> None:
    page = DOCS / "morph.md"
    commands = [block for block in blocks(page, "") if "shard" not in block]
    assert sum("facemorph-core" in block for block in commands) >= 3
    script = "\n".join(["set -e", *commands])
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }

    def run(*command: str, given: str) -> None:
        done = subprocess.run(
            command, cwd=tmp_path, input=given, env=environment, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr

    run("bash", "-s", given=script)
    for block in blocks(page, "python"):
        run(sys.executable, "-", given=block)
    made = {path.name for path in tmp_path.iterdir()}
    assert {"morph.mp4", "strip.jpg", "whole.png", "round.webp", "grid.jpg", "morph.gif"} <= made


def test_every_picture_of_the_docs_is_there() -> None:
    pages = [*DOCS.glob("**/*.md"), DOCS.parent / "README.md"]
    shown = [
        page.parent / target
        for page in pages
        for target in re.findall(r"!\[[^\]]*\]\(([^)#]+)\)", page.read_text("utf-8"))
    ]
    assert len(shown) > 3
    assert [str(path) for path in shown if not path.is_file()] == []
