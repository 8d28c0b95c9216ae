"""What the pages "add your own" show runs as it stands there, each page from top to bottom."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import DOCS, blocks

PAGES = sorted((DOCS / "extend").glob("*.md"))


def test_there_is_a_page_for_each_part():
    assert [page.stem for page in PAGES] == ["detector", "loss", "model", "rule"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    code = "\n".join(blocks(page, "python"))
    assert "assert " in code
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(DOCS.parent)},
        input=code,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
