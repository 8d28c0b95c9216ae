"""What the docs and the docstrings name is there: files, modules, classes, functions, settings."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / "docs").glob("**/*.md"), *ROOT.glob("[!C]*.md"), ROOT / "CONTRIBUTING.md"]
CODE = ("facemorph_core", "client", "server", "simulations", "benchmarks", "tools", "examples")
FILES = [file for folder in (*CODE, "tests") for file in sorted((ROOT / folder).rglob("*.py"))]
DATA = {"crt", "facemorph", "json", "jsonl", "key", "npy", "npz", "pem", "toml", "yaml", "yml"}
"""Ends of names that are somebody's files, not names of the code."""


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def defined(body: list[ast.stmt]) -> Iterator[str]:
    """What a module or a class names, its own and what it imports; of a class `Class.name`, too."""
    for node in body:
        match node:
            case ast.ClassDef():
                yield from (node.name, *(f"{node.name}.{name}" for name in defined(node.body)))
            case ast.FunctionDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                parts = [part for target in targets for part in ast.walk(target)]
                yield from (part.id for part in parts if isinstance(part, ast.Name))
            case ast.If() | ast.Try():
                yield from defined(node.body)


TREES = {
    module_of(file): ast.parse(file.read_text("utf-8"))
    for file in FILES
    if file.relative_to(ROOT).parts[0] in CODE
}
FOLDERS = {name.rsplit(".", cut)[0] for name in TREES for cut in range(name.count(".") + 1)}
NAMES = FOLDERS | {f"{name}.{own}" for name, tree in TREES.items() for own in defined(tree.body)}
NAMES |= {"facemorph_core.commands"}  # the entry points of the command line
ENDINGS = {name.split(".", cut)[-1] for name in NAMES for cut in range(name.count(".") + 1)}


def is_there(name: str) -> bool:
    """Whether a dotted name is ours, in full or from some folder on, or that of a library."""
    first, *_, last = name.split(".")
    if first in CODE:
        return name in NAMES
    is_setting = f"RunConfig.{first}" in ENDINGS and last in ENDINGS
    return name in ENDINGS or is_setting or importlib.util.find_spec(first) is not None


def pages() -> dict[str, str]:
    return {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in PAGES}


def docstrings() -> dict[str, str]:
    """Module -> its docstrings and those of all in it; what stands below a field counts."""
    texts: dict[str, list[str]] = {module: [] for module in TREES}
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            match node:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    texts[module].append(text)
    return {module: "\n".join(each) for module, each in texts.items()}


def gone(pattern: str, texts: dict[str, str]) -> list[str]:
    """Names of this pattern that are not there, and where they stand."""
    found = [(place, name) for place, text in texts.items() for name in re.findall(pattern, text)]
    return [
        f"{place}: {name}"
        for place, name in found
        if name.rpartition(".")[2] not in DATA and not is_there(name)
    ]


def test_a_name_is_found_in_full_or_from_some_folder_on() -> None:
    there = ["facemorph_core.learning.losses", "morphing.layers", "Bundle.path", "loss.kl"]
    assert [name for name in there if not is_there(name)] == []
    assert not is_there("facemorph_core.losses")
    assert not is_there("morph_quality.pairs")
    assert not is_there("bundle.locate")


def test_every_name_of_the_code_that_is_given_in_full_is_there() -> None:
    in_full = rf"(?<![\w./-])(?:{'|'.join(CODE)})(?:\.\w+)+"
    assert gone(in_full, pages() | docstrings()) == []


def test_every_dotted_name_in_a_docstring_is_there() -> None:
    assert gone(r"(?<!`)`([A-Za-z_]\w*(?:\.\w+)+)`(?!`)", docstrings()) == []


def test_every_file_that_is_named_is_there() -> None:
    folders = "|".join((*CODE, "tests", "configs", "docs"))
    path = re.compile(rf"(?<![\w./-])(?:{folders})/[\w./-]*\w")
    texts = pages() | docstrings()
    named = [(place, name) for place, text in texts.items() for name in path.findall(text)]
    assert len(named) > 20
    assert [each for each in named if not (ROOT / each[1]).exists()] == []


def test_every_python_file_that_a_page_names_is_there() -> None:
    ends = {"/".join(file.parts[cut:]) for file in FILES for cut in range(len(file.parts))}
    for place, text in pages().items():
        named = re.findall(r"`([\w./-]+\.py)`", text)
        assert [name for name in named if name not in ends] == [], place
