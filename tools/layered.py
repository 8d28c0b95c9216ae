"""Place boxes in rows and lines between them, so that no line runs behind a box.

A line that passes rows gets a place of its own in each of them, as if it were a thin box; the
places of a row are then ordered by where their neighbours are, which leaves few crossings. Sizes
are pixels, x to the right, y down. Nothing is random.

References:
    | Methods for Visual Understanding of Hierarchical System Structures (Sugiyama et al., 1981)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

GAP = 30  # between the places of a row
BETWEEN = 32  # rows
SWEEPS = 12

Edge = tuple[str, str]
Size = tuple[float, float]


class Place(NamedTuple):
    """A box, or what the line from ``box`` to ``passing`` takes of a row on its way."""

    row: int
    box: str
    passing: str = ""

    def width(self, sizes: Mapping[str, Size]) -> float:
        return 0.0 if self.passing else sizes[self.box][0]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where everything is."""

    corners: dict[str, tuple[float, float]]
    """Left and top of each box."""
    lines: dict[Edge, str]
    """The path of each line, as SVG writes it."""
    tops: list[float]
    """The upper edge of each row."""
    height: float


def layered(
    rows: Sequence[Sequence[str]],
    edges: Iterable[Edge],
    sizes: Mapping[str, Size],
    *,
    width: float,
) -> Drawing:
    """Boxes of ``sizes`` (w, h) in ``rows``, centred on ``width``; ``edges`` lead downwards."""
    row_of = {name: number for number, row in enumerate(rows) for name in row}
    boxes = [[Place(number, name) for name in row] for number, row in enumerate(rows)]
    chains = {
        (a, b): [
            Place(row_of[a], a),
            *(Place(row, a, b) for row in range(row_of[a] + 1, row_of[b])),
            Place(row_of[b], b),
        ]
        for a, b in sorted(edges)
    }
    ordered = _ordered(boxes, list(chains.values()))
    heights = [max(sizes[name][1] for name in row) for row in rows]
    tops = [sum(heights[:row]) + BETWEEN * row for row in range(len(rows))]
    lefts = {
        place: x for row in ordered for place, x in _spread(row, sizes, centre=width / 2).items()
    }
    corners = {place.box: (lefts[place], tops[place.row]) for row in boxes for place in row}
    ends = _ends(chains, lefts, sizes)
    lines = {}
    for (a, b), chain in chains.items():
        start, stop = ends[a, b]
        points = [(start, tops[row_of[a]] + sizes[a][1])]
        for place in chain[1:-1]:
            x, top = lefts[place], tops[place.row]
            points += [(x, top), (x, top + heights[place.row])]
        lines[a, b] = _path([*points, (stop, tops[row_of[b]])])
    return Drawing(corners, lines, tops, tops[-1] + heights[-1])


def _ordered(boxes: list[list[Place]], chains: list[list[Place]]) -> list[list[Place]]:
    """The places of each row from left to right."""
    above: dict[Place, list[Place]] = {}
    below: dict[Place, list[Place]] = {}
    places = [list(row) for row in boxes]
    for chain in chains:
        for place in chain[1:-1]:
            places[place.row].append(place)
        for upper, lower in pairwise(chain):
            below.setdefault(upper, []).append(lower)
            above.setdefault(lower, []).append(upper)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        at = _shares(places)
        for number in range(len(places)) if downwards else reversed(range(len(places))):
            row = places[number]
            wished = {
                place: _mean([at[other] for other in neighbours.get(place, [place])])
                for place in row
            }
            row.sort(key=wished.__getitem__)
            at |= _shares([row])
    return places


def _shares(rows: Iterable[Sequence[Place]]) -> dict[Place, float]:
    """How far to the right each place is in its row, 0 to 1."""
    return {place: (i + 0.5) / len(row) for row in rows for i, place in enumerate(row)}


def _spread(
    row: Sequence[Place], sizes: Mapping[str, Size], *, centre: float
) -> dict[Place, float]:
    """The left edge of each place of a row."""
    widths = [place.width(sizes) for place in row]
    x = centre - (sum(widths) + GAP * (len(row) - 1)) / 2
    lefts = {}
    for place, width in zip(row, widths, strict=True):
        lefts[place] = x
        x += width + GAP
    return lefts


def _ends(
    chains: Mapping[Edge, list[Place]], lefts: Mapping[Place, float], sizes: Mapping[str, Size]
) -> dict[Edge, tuple[float, float]]:
    """Where on its two boxes each line begins and ends: side by side, as their ways lie."""

    def along(place: Place, ways: list[tuple[float, Edge]]) -> dict[Edge, float]:
        step = place.width(sizes) / (len(ways) + 1)
        return {edge: lefts[place] + step * i for i, (_, edge) in enumerate(sorted(ways), 1)}

    def middle(place: Place) -> float:
        return lefts[place] + place.width(sizes) / 2

    starts: dict[Edge, float] = {}
    stops: dict[Edge, float] = {}
    for place in lefts:
        begun = [(middle(chain[1]), edge) for edge, chain in chains.items() if chain[0] == place]
        ended = [(middle(chain[-2]), edge) for edge, chain in chains.items() if chain[-1] == place]
        starts |= along(place, begun)
        stops |= along(place, ended)
    return {edge: (starts[edge], stops[edge]) for edge in chains}


def _path(points: list[tuple[float, float]]) -> str:
    """Straight through the rows, bent between them."""
    (x, y), *others = points
    parts = [f"M{x:.0f} {y:.0f}"]
    for i, (x1, y1) in enumerate(others):
        middle = (y + y1) / 2
        bent = f"C{x:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {y1:.0f}"
        parts.append(f"V{y1:.0f}" if i % 2 else bent)
        x, y = x1, y1
    return "".join(parts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
