"""Small line charts as SVG, which stands in a page or in a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 28, 30
STYLE = (
    "text { font: 11px system-ui, sans-serif; fill: #64748b } .grid { stroke: #e2e8f0 } "
    ".title { font-weight: 600; fill: #1e293b; font-size: 12px }"
)
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#475569")


@dataclass(frozen=True, slots=True)
class Line:
    """One named curve; ``points`` are (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(title: str, lines: Sequence[Line], *, x_label: str, unit: str = "") -> str:
    """SVG text of the curves with axes, end values and a legend; empty without a point."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    x_low, x_high = min(xs), max(xs)
    pad = 0.08 * (max(ys) - min(ys)) or abs(ys[0]) * 0.05 or 1.0
    y_low, y_high = min(ys) - pad, max(ys) + pad

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        up = (y - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>',
        '<rect width="100%" height="100%" rx="6" fill="#f8fafc"/>',
        f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>',
    ]
    for step in range(4):
        value = y_low + (y_high - y_low) * step / 3
        _, y = place(x_low, value)
        parts.append(
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    parts.append(
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{x_low:g}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">'
        f"{escape(x_label)} {x_high:g}</text>"
    )
    for number, line in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line.points))
        end_x, end_y = place(*line.points[-1])
        label = f"{line.name} {line.points[-1][1]:.4g}{unit}"
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{end_x:.1f}" cy="{end_y:.1f}" r="3" fill="{colour}"/>'
            f'<text x="{WIDTH - RIGHT - 4}" y="{HEIGHT // 2 + 14 * number}" text-anchor="end" '
            f'style="fill:{colour}">{escape(label)}</text>'
        )
    return "".join([*parts, "</svg>"])
