"""What mkdocs does for our pages beside its own work; mkdocs.yml names this file as a hook.

- The page of every setting, one of `examples/`, and the list of decisions are made, not written.
- A link out of `docs/` works in the repository and nowhere else: on the site it becomes its text.
- The built site loads nothing from another host, so that it works offline, else the build fails.
"""

from __future__ import annotations

import ast
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.config_reference import page as settings

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
SETTINGS, EXAMPLES = "reference/config.md", "examples.md"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)[^)#\s]+)(#[^)]*)?\)")
LOADING = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "image": "href",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "use": "href",
    "video": "src",
}
"""Elements that make a browser fetch something, and the attribute that says what."""
ELSEWHERE = re.compile(r"\s*(?:[a-z][a-z+.-]*:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give every decision a place in the navigation, and the examples, where there are any."""
    assert config.nav is not None
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    config.nav.append({"Decisions": [f"decisions/{path.name}" for path in decisions]})
    if _examples():
        config.nav.append({"Examples": EXAMPLES})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, SETTINGS, content=settings()))
    if _examples():
        files.append(File.generated(config, EXAMPLES, content=examples_page(_examples())))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Turn links out of the docs into text; one that leads nowhere stops the build."""
    return without_links_out(markdown, Path(page.file.src_uri))


def on_post_build(*, config: MkDocsConfig) -> None:
    """Stop if a page would load something from another host."""
    from mkdocs.exceptions import PluginError

    loaded = loaded_from_elsewhere(Path(config.site_dir))
    if loaded:
        raise PluginError("the site loads from other hosts:\n" + "\n".join(loaded))


def without_links_out(markdown: str, page: Path, root: Path = ROOT) -> str:
    """``markdown`` of ``page`` (its path in docs/) with links to files outside docs/ as text.

    Raises:
        FileNotFoundError: such a file is not there.
    """
    docs = (root / "docs").resolve()

    def text(found: re.Match[str]) -> str:
        target = (docs / page.parent / found[2]).resolve()
        if target.is_relative_to(docs):
            return found[0]
        if not target.exists():
            raise FileNotFoundError(f"docs/{page} links to {found[2]}, which is not there")
        return found[1]

    return LINK.sub(text, markdown)


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Everything that a page or a style sheet of ``site`` loads from another host."""
    found = []
    for path in sorted(site.rglob("*.html")):
        reader = _Loads()
        reader.feed(path.read_text("utf-8"))
        found += [f"{path.relative_to(site)}: {url}" for url in reader.found]
    for path in sorted(site.rglob("*.css")):
        urls = IN_STYLE.findall(path.read_text("utf-8"))
        found += [f"{path.relative_to(site)}: {url}" for url in urls]
    return found


class _Loads(HTMLParser):
    """Collects what a page loads from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.in_style = tag == "style"
        urls = [given.get(LOADING.get(tag, ""), "")]
        if tag == "link" and given.get("rel") in {"canonical", "next", "prev", "alternate"}:
            urls = []  # says where something is, loads nothing
        urls += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        self.found += [url for url in urls if ELSEWHERE.match(url)]
        self.found += IN_STYLE.findall(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.found += IN_STYLE.findall(data)


def examples_page(files: list[Path]) -> str:
    """The examples one after another, each under the first line of its docstring."""
    parts = ["# Examples\n"]
    for path in files:
        source = path.read_text("utf-8")
        told = (ast.get_docstring(ast.parse(source)) or path.stem).splitlines()[0]
        parts.append(f"## {path.name}\n\n{told}\n\n```python\n{source}```\n")
    return "\n".join(parts)


def _examples() -> list[Path]:
    return sorted((ROOT / "examples").glob("*.py"))
