"""The documentation builds strictly, and the built site loads nothing from anywhere else."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.docs_site import examples_page, loaded_from_elsewhere, without_links_out

ROOT = Path(__file__).parents[2]
NEEDED = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason='pip install -e ".[docs]"'
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "there.md").touch()
    (tmp_path / "code.py").touch()
    return tmp_path


def test_a_link_out_of_the_docs_becomes_its_text_and_others_stay(checkout):
    given = "[code](../../code.py#L3) and [there](../there.md#part), ![seen](../../code.py)"
    shown = without_links_out(given, Path("deep/page.md"), checkout)
    assert shown == "code and [there](../there.md#part), ![seen](../../code.py)"


def test_a_link_out_of_the_docs_that_leads_nowhere_stops_the_build(checkout):
    with pytest.raises(FileNotFoundError, match=r"docs/page\.md links to \.\./absent\.py"):
        without_links_out("[x](../absent.py)", Path("page.md"), checkout)


@pytest.mark.parametrize(
    ("html", "url"),
    [
        ('<script src="https://cdn.example/a.js"></script>', "https://cdn.example/a.js"),
        ('<script src="//cdn.example/a.js"></script>', "//cdn.example/a.js"),
        (
            '<link rel="stylesheet" href="https://fonts.example/f.css">',
            "https://fonts.example/f.css",
        ),
        ('<link rel="preconnect" href="https://fonts.example">', "https://fonts.example"),
        ('<img src="http://example/x.png">', "http://example/x.png"),
        ('<img srcset="a.png 1x, https://example/b.png 2x">', "https://example/b.png"),
        ('<p style="background: url(https://example/b.png)">', "https://example/b.png"),
        ("<style>@import 'https://example/b.css';</style>", "https://example/b.css"),
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(tmp_path, html, url):
    (tmp_path / "page.html").write_text(f"<html><body>{html}</body></html>")
    assert loaded_from_elsewhere(tmp_path) == [f"page.html: {url}"]


def test_what_a_page_loads_from_its_own_site_or_only_names_is_no_finding(tmp_path):
    (tmp_path / "page.html").write_text(
        '<link rel="canonical" href="https://x.example/"><script src="a.js"></script>'
        '<a href="https://flower.ai">Flower</a><img src="../b.png"><img src="data:image/png,">'
    )
    (tmp_path / "style.css").write_text("a { background: url(../c.svg) }")
    assert loaded_from_elsewhere(tmp_path) == []
    (tmp_path / "style.css").write_text("a { background: url('//x.example/c.svg') }")
    assert loaded_from_elsewhere(tmp_path) == ["style.css: //x.example/c.svg"]


def test_the_page_of_examples_shows_each_file_under_its_first_line(tmp_path):
    (tmp_path / "one.py").write_text('"""One line.\n\nMore."""\n\nx = 1\n')
    page = examples_page([tmp_path / "one.py"])
    assert "## one.py\n\nOne line.\n" in page
    assert "x = 1\n```" in page


def built(checkout: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": "."}
    command = [sys.executable, "-m", "mkdocs", "build"]  # --quiet would hide what strict counts
    return subprocess.run(command, cwd=checkout, env=environment, text=True, capture_output=True)


@NEEDED
@pytest.mark.slow
def test_the_site_builds_and_a_broken_link_or_anchor_fails(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for entry in {path.name for path in ROOT.iterdir()} - {"docs", "site"}:
        (tmp_path / entry).symlink_to(ROOT / entry)
    done = built(tmp_path)
    assert done.returncode == 0, done.stderr
    assert loaded_from_elsewhere(tmp_path / "site") == []
    assert "federation.quorum" in (tmp_path / "site/reference/config.html").read_text()
    assert 'id="facemorph_core.morph"' in (tmp_path / "site/reference/api.html").read_text()
    for planted in ("[x](absent.md)", "[x](privacy.md#no-such-part)", "![x](images/absent.png)"):
        page = tmp_path / "docs/index.md"
        page.write_text((ROOT / "docs/index.md").read_text() + planted)
        assert built(tmp_path).returncode != 0, planted
