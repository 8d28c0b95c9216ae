"""The picture of the house is what the code is, and no line of it runs behind a box."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.architecture import CORE, LEARNING, drawn, layers, reduced
from tools.layered import layered

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"


def test_the_committed_picture_is_what_the_command_draws():
    assert PICTURE.read_text("utf-8") == drawn(), (
        f"python -m tools.architecture --out {PICTURE.relative_to(ROOT)}"
    )


def test_the_picture_shows_every_folder_and_loads_nothing():
    svg = PICTURE.read_text("utf-8")
    ET.fromstring(svg)
    folders = [path.name for path in (ROOT / CORE).iterdir() if (path / "__init__.py").is_file()]
    for name in (*folders, "client", "server", "simulations", "benchmarks", "tools"):
        assert f">{name}<" in svg
    assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme: dark" in svg


def test_layers_are_those_that_are_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert layers(project, "")[-1] == [CORE]
    assert layers(project, CORE)[-1] == [f"{CORE}.errors"]
    assert [f"{LEARNING}.training"] in layers(project, LEARNING)
    with pytest.raises(ValueError, match="no layers of 'attic'"):
        layers(project, "attic")


@st.composite
def houses(draw):
    """Rows of names, and edges that lead downwards."""
    counts = draw(st.lists(st.integers(1, 3), min_size=2, max_size=6))
    rows = [[f"r{i}n{j}" for j in range(count)] for i, count in enumerate(counts)]
    row_of = {name: i for i, row in enumerate(rows) for name in row}
    pairs = [(a, b) for a in row_of for b in row_of if row_of[a] < row_of[b]]
    return rows, draw(st.lists(st.sampled_from(pairs), unique=True))


def reach(imports: dict[str, set[str]], name: str) -> set[str]:
    return imports[name].union(*(reach(imports, other) for other in imports[name]))


@given(houses())
def test_what_is_left_out_follows_and_what_is_drawn_does_not(house):
    rows, edges = house
    imports = {name: {b for a, b in edges if a == name} for row in rows for name in row}
    left = reduced(imports)
    for name, targets in left.items():
        assert targets <= imports[name]
        assert reach(left, name) == reach(imports, name)
        for target in targets:
            without = left | {name: targets - {target}}
            assert target not in reach(without, name)


@given(houses())
def test_boxes_lie_apart_and_lines_beside_them(house):
    rows, edges = house
    sizes = {name: (40.0, 20.0 + 10 * i) for i, row in enumerate(rows) for name in row}
    drawing = layered(rows, edges, sizes, width=500)
    for row in rows:
        lefts = sorted(drawing.corners[name][0] for name in row)
        assert all(b - a > 40 for a, b in pairwise(lefts))
    for (a, b), path in drawing.lines.items():
        x, y = drawing.corners[a]
        begins = [float(part) for part in re.match(r"M(\S+) (\S+?)C", path).groups()]
        assert x <= begins[0] <= x + 40
        assert begins[1] == round(y + sizes[a][1])
        assert path.endswith(f" {drawing.corners[b][1]:.0f}")
        passed = [float(x) for x in re.findall(r" (\S+) \S+?V", path)]
        between = rows[int(a[1]) + 1 : int(b[1])]
        assert len(passed) == len(between)
        for at, row in zip(passed, between, strict=True):
            for name in row:
                left = drawing.corners[name][0]
                assert not left < at < left + 40
