"""What the speed benchmark says: Markdown for the docs, JSON for a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.speed.pace import Pace, Roof, ratios
from benchmarks.speed.preparing import Prepared
from benchmarks.speed.race import Finish
from benchmarks.speed.rounds import Crowd, RoundCost
from benchmarks.table import markdown_table
from facemorph_core.metrics.bootstrap import Interval

__all__ = ["SpeedReport", "to_json", "to_markdown"]


@dataclass(slots=True)
class SpeedReport:
    """What was measured; what was not asked for is empty."""

    machine: str
    precision: str
    """What our model is trained in there."""
    roof: Roof | None = None
    paces: list[Pace] = field(default_factory=list)
    finishes: list[Finish] = field(default_factory=list)
    prepared: list[Prepared] = field(default_factory=list)
    round: RoundCost | None = None
    crowds: list[Crowd] = field(default_factory=list)


def to_json(report: SpeedReport) -> dict[str, Any]:
    """Everything, with the ratios that the tables show."""
    found: dict[str, Any] = {"machine": report.machine, "precision": report.precision}
    if report.roof is not None and report.paces:
        others = ratios(report.paces)
        found["training"] = {
            "images_per_second_ratio": next(iter(others.values())),
            "ratios": others,
            "roof_gflops": asdict(report.roof),
            "entrants": [
                asdict(pace)
                | {
                    "images_per_second": pace.images_per_second,
                    "of_roof": pace.achieved / report.roof.best,
                }
                for pace in report.paces
            ],
        }
    if report.finishes:
        found["race"] = [asdict(finish) for finish in report.finishes]
    if report.prepared:
        found["prepare"] = [
            asdict(each) | {"photos_per_second": each.photos_per_second} for each in report.prepared
        ]
    if report.round is not None:
        found["round"] = asdict(report.round) | {"ratio": report.round.ratio}
    if report.crowds:
        found["crowds"] = [asdict(crowd) for crowd in report.crowds]
    return found


def to_markdown(report: SpeedReport) -> str:
    """Tables, each with a line about what it shows."""
    parts = [f"Measured on {report.machine}; trained in {report.precision}."]
    if report.roof is not None and report.paces:
        parts += [_training(report.paces, report.roof)]
    if report.finishes:
        parts += [_race(report.finishes)]
    if report.prepared:
        parts += [_prepared(report.prepared)]
    if report.round is not None:
        parts += [_round(report.round)]
    if report.crowds:
        parts += [_crowds(report.crowds)]
    return "\n\n".join(parts) + "\n"


def _training(paces: Sequence[Pace], roof: Roof) -> str:
    first = paces[0]
    lines = [
        [
            pace.name,
            f"{pace.parameters / 1e6:.1f} M",
            str(pace.batch),
            f"{pace.images_per_second:.1f}",
            f"{pace.images_per_second / first.images_per_second:.2f}",
            f"{1000 * pace.seconds:.0f} [{1000 * pace.spread[0]:.0f}, {1000 * pace.spread[1]:.0f}]",
            f"{1000 * pace.reading:.0f}",
            f"{1000 * pace.optimiser:.0f}",
            f"{pace.gigaflops:.2f}",
            f"{100 * pace.achieved / roof.best:.0f} %",
            f"{pace.peak_mib:.0f}",
        ]
        for pace in paces
    ]
    headings = [
        *("", "parameters", "batch", "images/s", "ratio", "step, ms [quartiles]", "reading, ms"),
        *("optimiser, ms", "GFLOP an image", "of the roof", "peak memory, MiB"),
    ]
    kind = "a float32" if roof.bfloat16 is None else "a bfloat16"
    beside = "" if roof.bfloat16 is None else f" ({roof.float32:.0f} in float32)"
    return (
        f"{markdown_table(headings, lines)}\n\n"
        f"The roof: {roof.best:.0f} GFLOP/s of {kind} matrix product of 4096 rows and "
        f"columns{beside}. FLOP are those of forward and backward, without the optimiser's."
    )


def _race(finishes: Sequence[Finish]) -> str:
    lines = [
        [
            finish.name,
            f"{finish.seconds:.0f}",
            f"{finish.images:,}",
            _interval(finish.psnr),
            "-" if finish.ahead is None else _interval(finish.ahead, "+"),
        ]
        for finish in finishes
    ]
    return markdown_table(["", "seconds", "images", "PSNR, dB", "ahead, dB"], lines)


def _prepared(prepared: Sequence[Prepared]) -> str:
    lines = [
        [
            f"{each.photos:,}",
            f"{each.seconds:.1f}",
            f"{each.photos_per_second:.0f}",
            f"{each.peak_mib:.0f}",
        ]
        for each in prepared
    ]
    return markdown_table(["photos", "seconds", "photos/s", "peak memory, MiB"], lines)


def _round(cost: RoundCost) -> str:
    lines = [
        ["a round", f"{cost.round_seconds:.1f}"],
        ["the first round", f"{cost.first_round_seconds:.1f}"],
        ["the same images in one place", f"{cost.central_seconds:.1f}"],
        ["ratio", f"{cost.ratio:.2f}"],
        ["start and end of the run", f"{cost.start_seconds:.1f}"],
    ]
    return markdown_table([f"{cost.sites} sites, {cost.images:,} images", "seconds"], lines)


def _crowds(crowds: Sequence[Crowd]) -> str:
    lines = [
        [
            f"{crowd.sampled} of {crowd.sites}",
            f"{crowd.seconds:.0f}",
            f"{crowd.server_mib:.0f}",
            f"{crowd.held_mib:.0f}",
        ]
        for crowd in crowds
    ]
    headings = ["sites of a round", "seconds", "server's peak, MiB", "all updates, MiB"]
    return markdown_table(headings, lines)


def _interval(value: Interval, sign: str = "") -> str:
    return f"{value.mean:{sign}.2f} [{value.low:{sign}.2f}, {value.high:{sign}.2f}]"
