"""What a benchmark says: tables in Markdown, everything as JSON, the same faces as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.claims import Claim, Curve, claims
from benchmarks.ladder import BASELINE, PAIRS
from benchmarks.sets import RESAMPLES, Distance
from benchmarks.store import Row
from facemorph_core.evaluation.groups import Groups, groups_json
from facemorph_core.evaluation.reconstructions import intervals
from facemorph_core.evaluation.report import INTERVAL
from facemorph_core.learning.nets.vgg_features import fid_unavailable
from facemorph_core.metrics.bootstrap import Interval, interval_of_difference, intervals_json

__all__ = ["Report", "differences", "draw_grid", "markdown_table", "to_json", "to_markdown"]

# of each column: heading, factor, digits
COLUMNS = {
    "psnr": ("PSNR frame, dB", 1, 2),
    "psnr_hull": ("PSNR hull, dB", 1, 2),
    "ssim": ("SSIM frame", 1, 3),
    "ssim_hull": ("SSIM hull", 1, 3),
    "lpips": ("LPIPS frame", 1, 3),
    "lpips_hull": ("LPIPS hull", 1, 3),
    "identity.same_photo": ("verified, same photo, %", 100, 1),
    "identity.different_photo": ("verified, another photo, %", 100, 1),
    "identity.distance": ("dlib distance", 1, 3),
}
DISTANCES = {
    "fd.reconstructions": ("FD reconstructions", 1, 2),
    "fd.morphs": ("FD morphs", 1, 2),
    "fd.samples": ("FD samples", 1, 2),
    "kd.reconstructions": ("KD reconstructions, x1000", 1000, 1),
    "kd.morphs": ("KD morphs, x1000", 1000, 1),
    "kd.samples": ("KD samples, x1000", 1000, 1),
}
REAL = "identity.real_photos"
NOTHING = "-"

GAP, MARGIN = 2, 8  # pixels between faces; on both sides of a row's label
PAPER, INK, FONT = (255, 255, 255), (60, 60, 60), 13


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Everything that a benchmark found."""

    setup: Mapping[str, Any]
    rows: Sequence[Row]
    people: Sequence[str]
    """Whose face each place of a row's columns is."""
    train: int
    """Photos that were fitted on."""
    groups: Groups
    floor: Mapping[str, Distance]
    """"fd" and "kd" of photos of other people; empty where there are too few people."""
    curve: Curve = field(default_factory=dict)
    """Empty where it was not asked for."""


def differences(row: Row, baseline: Row, people: Sequence[str]) -> dict[str, Interval]:
    """``row`` less ``baseline``: means over the faces that have both scores, and distances."""
    owners = np.asarray(people)
    theirs_of = baseline.scores.distances
    found = {
        name: distance.less(theirs_of[name])
        for name, distance in row.scores.distances.items()
        if name in theirs_of
    }
    for name, ours in row.scores.columns.items():
        theirs = baseline.scores.columns[name]
        present = ~np.isnan(ours) & ~np.isnan(theirs)
        if name != REAL and present.any():
            found[name] = interval_of_difference(ours[present], theirs[present], owners[present])
    return found


# --- Markdown --------------------------------------------------------------------------------


def to_markdown(report: Report) -> str:
    """All tables, with what they were measured on and how."""
    parts = [
        "# Faces through 128 numbers",
        _measured_on(report),
        "## Reconstructions",
        _table(COLUMNS, [_real_photos(report), *_means(report.rows, report.people)]),
        "## Against PCA-128, face by face",
        _against_baseline(report),
        "## Sets of faces",
        _table(DISTANCES, _distances(report)),
        "## One thing changed",
        _one_thing_changed(report),
        "## Cost",
        _costs(report.rows),
    ]
    if report.curve:
        parts += [
            "## PCA by numbers and framing",
            _table(
                COLUMNS,
                [cells for rows in report.curve.values() for cells in _means(rows, report.people)],
            ),
        ]
    parts += [
        "## What was claimed",
        _claimed(claims(report.rows, report.curve, report.people)),
        "## How it is measured",
        _notes(),
    ]
    return "\n\n".join(parts) + "\n"


Cells = tuple[str, Mapping[str, Interval]]
"""A row of a table: its label and what it says of each column."""


def _means(rows: Sequence[Row], people: Sequence[str]) -> list[Cells]:
    return [(row.label, intervals(row.scores.columns, people)) for row in rows]


def _real_photos(report: Report) -> Cells:
    """Two photos of a person verify as often as a perfect reconstruction would."""
    columns = report.rows[0].scores.columns if report.rows else {}
    found = intervals({key: columns[key] for key in (REAL,) if key in columns}, report.people)
    return "real photos", {"identity.different_photo": found[REAL]} if found else {}


def _distances(report: Report) -> list[Cells]:
    floor = _intervals_of(report.floor)
    real = {f"{kind}.reconstructions": interval for kind, interval in floor.items()}
    return [
        ("real photos, of other people", real),
        *((row.label, _intervals_of(row.scores.distances)) for row in report.rows),
    ]


def _intervals_of(distances: Mapping[str, Distance]) -> dict[str, Interval]:
    return {name: distance.interval for name, distance in distances.items()}


def _against_baseline(report: Report) -> str:
    baseline = next((row for row in report.rows if row.name == BASELINE), None)
    if baseline is None:
        return f"Not measured: `{BASELINE}` is not among the rows."
    rows = [
        (row.label, differences(row, baseline, report.people))
        for row in report.rows
        if row is not baseline
    ]
    return _table(COLUMNS, rows, sign="+")


def _one_thing_changed(report: Report) -> str:
    """A column for each pair of rows of which both are there, a line for each measure."""
    rows = {row.name: row for row in report.rows}
    found = {
        told: differences(rows[name], rows[other], report.people)
        for told, (name, other) in PAIRS.items()
        if name in rows and other in rows
    }
    if not found:
        return "Not measured: no two rows of a pair are there."
    lines = [
        [heading, *(_cell(cells.get(name), factor, digits, sign="+") for cells in found.values())]
        for name, (heading, factor, digits) in (COLUMNS | DISTANCES).items()
        if any(name in cells for cells in found.values())
    ]
    return markdown_table(["", *found], lines)


def _claimed(found: Sequence[Claim]) -> str:
    lines = [[claim.said, claim.verdict, claim.measured] for claim in found]
    return markdown_table(["claim", "holds", "measured here"], lines)


def _table(
    columns: Mapping[str, tuple[str, float, int]], rows: Sequence[Cells], *, sign: str = ""
) -> str:
    """Columns that no row has are left out."""
    shown = [name for name in columns if any(name in cells for _, cells in rows)]
    if not shown:
        return "Not measured."
    lines = [
        [
            label,
            *(_cell(cells.get(name), *columns[name][1:], sign=sign) for name in shown),
        ]
        for label, cells in rows
    ]
    return markdown_table(["", *(columns[name][0] for name in shown)], lines)


def _costs(rows: Sequence[Row]) -> str:
    headings = ["", "numbers", "parameters", "images seen", "seconds", "note"]
    lines = [
        [
            row.label,
            str(row.facts.numbers),
            f"{row.facts.parameters:,}",
            f"{row.facts.images_seen:,}",
            f"{row.facts.seconds:,.0f}",
            row.facts.note,
        ]
        for row in rows
    ]
    return markdown_table(headings, lines)


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: names on the left, numbers on the right."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *lines))


def _cell(interval: Interval | None, factor: float, digits: int, *, sign: str) -> str:
    if interval is None:
        return NOTHING
    mean, low, high = (
        f"{factor * value:{sign}.{digits}f}"
        for value in (interval.mean, interval.low, interval.high)
    )
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


def _measured_on(report: Report) -> str:
    setup = report.setup
    quick = " A quick try: its figures say that it works, not how well." if setup["quick"] else ""
    return (
        f"{len(report.people):,} photos of {len(set(report.people)):,} people whom no row was "
        f"fitted on (split {setup['split']}); {report.train:,} photos to fit on. Training took "
        f"{setup['minutes']:g} min a row on {setup['machine']['cores']} cores "
        f"({setup['machine']['cpu']}), in {setup['machine']['precision']}.{quick}"
    )


def _notes() -> str:
    notes = [
        f"Intervals of means and of differences: {INTERVAL}. A difference is taken on each face.",
        "Hull: inside the convex hull of the 68 landmarks. LPIPS (AlexNet, 0.1) of the hull sees "
        "the same grey outside it in both pictures.",
        "Verified: dlib's embedding within 0.6 of the photo that was encoded, or of another photo "
        "of the same person; two real photos of a person are the bound for the latter.",
        "FD-VGG16 and KD-VGG16: Fréchet and kernel distance of VGG16's relu5_3, averaged over the "
        "picture; lower is nearer. What is made of one half of the people (reconstructions, morphs "
        "half way between two of them, as many draws from the prior) is compared with photos of "
        "the other half, and real photos likewise. Their intervals are 1.96 standard deviations "
        f"over {RESAMPLES} resamples of couples of people. FD is too large for few photos, in "
        "all rows nearly alike; KD is unbiased, so 0 is as good as photos.",
        fid_unavailable(),
        "Images seen count each reading. A budget counts learning alone, without evaluation, and "
        "without a GPU the time that the cores gave to it. Rows that learn take turns of a minute: "
        "none pays for what else the machine did.",
    ]
    return "\n".join(f"- {note}" for note in notes)


# --- JSON ------------------------------------------------------------------------------------


def to_json(report: Report) -> dict[str, Any]:
    """Every figure; what is no number is null."""
    baseline = next((row for row in report.rows if row.name == BASELINE), None)
    people = report.people
    return {
        "setup": dict(report.setup),
        "faces": {"scored": len(people), "people": len(set(people)), "train": report.train},
        "intervals": INTERVAL,
        "fid": fid_unavailable(),
        "real_photos": intervals_json(_intervals_of(report.floor)),
        "rows": {
            row.name: _row_json(row, people)
            | {
                "against": {BASELINE: intervals_json(differences(row, baseline, people))}
                if baseline is not None
                else {},
                "groups": groups_json(row.scores.columns, report.groups, people),
            }
            for row in report.rows
        },
        "curve": {
            framing: {row.name: _row_json(row, people) for row in rows}
            for framing, rows in report.curve.items()
        },
        "claims": [asdict(claim) for claim in claims(report.rows, report.curve, people)],
    }


def _row_json(row: Row, people: Sequence[str]) -> dict[str, Any]:
    return {
        "label": row.label,
        "facts": asdict(row.facts),
        "scores": intervals_json(intervals(row.scores.columns, people)),
        "distances": intervals_json(_intervals_of(row.scores.distances)),
    }


# --- picture ---------------------------------------------------------------------------------


def draw_grid(rows: Sequence[tuple[str, NDArray[np.uint8]]]) -> Image.Image:
    """Labelled rows of (n, S, S, 3) faces, one column a person."""
    count, side = rows[0][1].shape[:2]
    pitch = side + GAP
    font = ImageFont.load_default(FONT)
    left = 2 * MARGIN + max(math.ceil(font.getlength(label)) for label, _ in rows)
    picture = Image.new("RGB", (left + count * pitch, len(rows) * pitch - GAP), PAPER)
    draw = ImageDraw.Draw(picture)
    for i, (label, faces) in enumerate(rows):
        top = i * pitch
        draw.text((left - MARGIN, top + side / 2), label, INK, font, anchor="rm")
        for j, face in enumerate(faces):
            picture.paste(Image.fromarray(face), (left + j * pitch, top))
    return picture
