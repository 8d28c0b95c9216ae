"""Small line charts as SVG, which stands in a page or in a file of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 420, 220
"""Of a chart without its legend."""
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 28, 30
LEGEND_ROW, LEGEND_LETTERS = 15, 23
"""Pixels of a line of the legend; longest label of which two stand in a line."""
STYLE = (
    "text { font: 11px system-ui, sans-serif; fill: #64748b } .grid { stroke: #e2e8f0 } "
    ".title { font-weight: 600; fill: #1e293b; font-size: 12px }"
)
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#475569")
DASHES = ("none", "6 3", "2 3")
"""Of the first lines, of those after one round of colours, and after two."""


@dataclass(frozen=True, slots=True)
class Line:
    """One named curve; ``points`` are (x, y)."""

    name: str
    points: Sequence[Point]


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    unit: str = "",
    lowest: float = -math.inf,
) -> str:
    """SVG text of the curves with axes and a legend of their end values; empty without a point.

    Points below ``lowest`` are left out, so that a steep beginning does not flatten the rest.
    """
    shown = [Line(line.name, [p for p in line.points if p[1] >= lowest]) for line in lines]
    drawn = [line for line in shown if line.points]
    if not drawn:
        return ""
    scale = _Scale.of([point for line in drawn for point in line.points])
    legend, height = _legend(drawn, unit)
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-label="{escape(title)}"><style>{STYLE}</style>',
            '<rect width="100%" height="100%" rx="6" fill="#f8fafc"/>',
            f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>',
            *_axes(scale, x_label),
            *(_curve(line, scale, number) for number, line in enumerate(drawn)),
            *legend,
            "</svg>",
        ]
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where values stand in the picture."""

    x: Point
    """Least and largest value shown."""
    y: Point

    @staticmethod
    def of(points: Sequence[Point]) -> _Scale:
        xs, ys = zip(*points, strict=True)
        pad = 0.08 * (max(ys) - min(ys)) or abs(ys[0]) * 0.05 or 1.0
        return _Scale((min(xs), max(xs)), (min(ys) - pad, max(ys) + pad))

    def place(self, point: Point) -> Point:
        (x_low, x_high), (y_low, y_high) = self.x, self.y
        across = (point[0] - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        down = (y_high - point[1]) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), TOP + down * (HEIGHT - TOP - BOTTOM)


def _axes(scale: _Scale, x_label: str) -> list[str]:
    (first, last), (low, high) = scale.x, scale.y
    levels = [low + (high - low) * step / 3 for step in range(4)]
    places = [(level, scale.place((first, level))[1]) for level in levels]
    return [
        *(
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_told(level)}</text>'
            for level, y in places
        ),
        f'<text x="{LEFT}" y="{HEIGHT - 10}">{_told(first)}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 10}" text-anchor="end">'
        f"{escape(x_label)} {_told(last)}</text>",
    ]


def _told(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _curve(line: Line, scale: _Scale, number: int) -> str:
    places = [scale.place(point) for point in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    x, y = places[-1]
    return (
        f'<polyline points="{path}" fill="none" {_stroke(number)}/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{COLOURS[number % len(COLOURS)]}"/>'
    )


def _legend(lines: Sequence[Line], unit: str) -> tuple[list[str], int]:
    """Names and end values under the chart, and the height of both."""
    labels = [f"{line.name} {line.points[-1][1]:.4g}{unit}" for line in lines]
    columns = 2 if max(map(len, labels)) <= LEGEND_LETTERS else 1
    parts = []
    for number, label in enumerate(labels):
        row, column = divmod(number, columns)
        x = LEFT + column * (WIDTH - LEFT - RIGHT) // columns
        y = HEIGHT + LEGEND_ROW * row + 6
        parts.append(
            f'<line x1="{x}" y1="{y - 4}" x2="{x + 18}" y2="{y - 4}" {_stroke(number)}/>'
            f'<text x="{x + 24}" y="{y}">{escape(label)}</text>'
        )
    return parts, HEIGHT + LEGEND_ROW * math.ceil(len(labels) / columns)


def _stroke(number: int) -> str:
    """How the line of this number is drawn: no two of the first eighteen alike."""
    again, colour = divmod(number, len(COLOURS))
    dash = DASHES[again % len(DASHES)]
    return f'stroke="{COLOURS[colour]}" stroke-width="1.6" stroke-dasharray="{dash}"'
