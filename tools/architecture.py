"""Draw the picture of docs/architecture.md from the code: who imports whom, layer by layer.

    python -m tools.architecture --out docs/images/architecture.svg

Rows are the layers that import-linter checks (pyproject.toml); boxes are folders. A line is an
import that does not follow from others: where a imports b and b imports c, none is drawn from a
to c. The same code gives the same bytes.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import grimp

from tools.layered import BETWEEN, layered

ROOT = Path(__file__).parents[1]
CORE, LEARNING = "facemorph_core", "facemorph_core.learning"
TORCH = ("torch", "torchvision", "opacus", "lpips")

WIDTH, MARGIN = 700, 15  # pixels, as all below
LINE, PADDING = 16, 10
LETTER = 7.2  # of the font below, on average
LEGEND = (
    "a line: imports (what follows from other lines is left out) · tinted: knows torch",
    "dashed: its files travel in the app's bundle, its folders stay",
)

Imports = dict[str, set[str]]

STYLE = """
  svg { color-scheme: light dark; }
  text { font: 13px system-ui, sans-serif; fill: #1d2733; text-anchor: middle; }
  .small { font-size: 11px; fill: #5a6775; }
  .left { text-anchor: start; }
  .ground { fill: #ffffff; }
  .house { fill: #f3f6f9; stroke: #c3ccd6; }
  .box { fill: #ffffff; stroke: #6b7a8a; }
  .torch { fill: #fdf0dc; stroke: #c07a10; }
  .travels { stroke-width: 2.5; stroke-dasharray: 6 3; }
  path { fill: none; stroke: #8c9aa8; stroke-width: 1.2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e9ee; }
    .small { fill: #a4b0bc; }
    .ground { fill: #171c22; }
    .house { fill: #1e252d; stroke: #46525f; }
    .box { fill: #29323c; stroke: #94a3b3; }
    .torch { fill: #46351a; stroke: #e0a040; }
    path { stroke: #66747f; }
  }
"""


def layers(project: Mapping[str, Any], container: str) -> list[list[str]]:
    """The rows of one container ("" is the top), from its contract, the highest first."""
    for contract in project["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers" and contract.get("containers", [""]) == [container]:
            rows = [[name.strip() for name in row.split("|")] for row in contract["layers"]]
            return [[f"{container}.{name}".lstrip(".") for name in row] for row in rows]
    raise ValueError(f"pyproject.toml has no layers of '{container}'")


def imports_between(graph: grimp.ImportGraph, folders: list[str]) -> Imports:
    """For each folder those others that a file in it imports from."""
    inside = {name: {name, *graph.find_descendants(name)} for name in folders}
    home = {module: name for name, modules in inside.items() for module in modules}
    return {
        name: {
            home[imported]
            for module in modules
            for imported in graph.find_modules_directly_imported_by(module)
            if home.get(imported, name) != name
        }
        for name, modules in inside.items()
    }


def reduced(imports: Imports) -> Imports:
    """Without what follows: an import that a longer way makes as well."""

    def reach(name: str) -> set[str]:
        return imports[name].union(*(reach(other) for other in imports[name]))

    return {
        name: {
            target
            for target in targets
            if not any(target in reach(other) for other in targets - {target})
        }
        for name, targets in imports.items()
    }


def knows_torch(graph: grimp.ImportGraph, folder: str) -> bool:
    """Whether a file of it imports torch or what is built on it, also late."""
    modules = {folder, *graph.find_descendants(folder)}
    return any(
        name in graph.find_modules_directly_imported_by(m) for m in modules for name in TORCH
    )


def drawn(root: Path = ROOT) -> str:
    """The picture, SVG."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["importlinter"]["root_packages"]
    graph = grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)
    upper = [row for row in layers(project, "") if row != [CORE]]
    lower = layers(project, CORE)
    inner = tuple(" · ".join(map(_title, row)) for row in layers(project, LEARNING))
    travelling = {given.split("/")[0] for given in project["tool"]["flwr"]["app"]["fab-include"]}

    boxes = [name for row in (*upper, *lower) for name in row]
    imports = reduced(imports_between(graph, boxes))
    written = {name: (_title(name), *(inner if name == LEARNING else ())) for name in boxes}
    drawing = layered(
        [*upper, *lower],
        [(name, target) for name in boxes for target in imports[name]],
        {name: _size(lines) for name, lines in written.items()},
        width=WIDTH,
    )
    house = drawing.tops[len(upper)] - 0.4 * BETWEEN
    parts = [
        f'<rect class="house" x="{MARGIN}" y="{house:.0f}" rx="8"'
        f' width="{WIDTH - 2 * MARGIN}" height="{drawing.height - house + MARGIN:.0f}"/>',
        f'<text class="small left" x="{2 * MARGIN}" y="{house + LINE + 4:.0f}">{CORE}</text>',
        *(f'<path d="{path}"/>' for path in drawing.lines.values()),
    ]
    for name, lines in written.items():
        kinds = "box" + " torch" * knows_torch(graph, name) + " travels" * (name in travelling)
        parts += _box(lines, drawing.corners[name], kinds)
    return _page(parts, drawing.height)


def _page(parts: list[str], height: float) -> str:
    """All of it on a ground, with the legend below."""
    below = [height + LINE * number for number in range(3, 3 + len(LEGEND))]
    legend = [
        f'<text class="small" x="{WIDTH / 2:.0f}" y="{y:.0f}">{line}</text>'
        for line, y in zip(LEGEND, below, strict=True)
    ]
    whole = f'y="{-MARGIN}" width="{WIDTH}" height="{below[-1] + 2 * MARGIN:.0f}"'
    view = f"0 {-MARGIN} {WIDTH} {below[-1] + 2 * MARGIN:.0f}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" role="img">',
        "<title>Layers of the code, and who imports whom</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" {whole}/>',
    ]
    return "\n".join([*head, *parts, *legend, "</svg>", ""])


def _size(lines: tuple[str, ...]) -> tuple[float, float]:
    return 2 * PADDING + LETTER * max(map(len, lines)), 2 * PADDING + LINE * len(lines)


def _box(lines: tuple[str, ...], at: tuple[float, float], kinds: str) -> Iterator[str]:
    (x, y), (width, height) = at, _size(lines)
    yield (
        f'<rect class="{kinds}" x="{x:.0f}" y="{y:.0f}" rx="5"'
        f' width="{width:.0f}" height="{height:.0f}"/>'
    )
    for number, line in enumerate(lines):
        small = ' class="small"' if number else ""
        base = y + PADDING + LINE * (number + 0.8)
        yield f'<text{small} x="{x + width / 2:.0f}" y="{base:.0f}">{escape(line)}</text>'


def _title(name: str) -> str:
    return name.rpartition(".")[2]


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the layers of the code as an SVG.")
    parser.add_argument("--out", type=Path, required=True)
    parser.parse_args().out.write_text(drawn(), encoding="utf-8")


if __name__ == "__main__":
    main()
