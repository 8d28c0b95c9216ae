"""What `facemorph-core morph` is asked to write, what cannot be, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from facemorph_core.machine.printable import tell

if TYPE_CHECKING:
    from facemorph_core.morphing.film import MorphFilm
    from facemorph_core.pictures.outputs import Outcome, Output

__all__ = [
    "check_distinct",
    "check_encoders",
    "check_places",
    "frame_count",
    "frames_told",
    "raise_problems",
    "wanted_outputs",
]


def wanted_outputs(
    out: list[str] | None, sheet: Path | None, at: list[float] | None, photos: list[Path]
) -> list[Output]:
    """What is to be written, by the name that each output was given."""
    from facemorph_core.disk.output import named_after
    from facemorph_core.pictures.outputs import Output

    names = list(out or [])
    if not names and sheet is None:
        stem = named_after(photos)
        if at and len(at) > 1:
            raise typer.BadParameter("several --at need -o: a folder/, or a name as morph-%02d.png")
        names = [str(photos[0].with_name(f"{stem}-{at[0]:g}.png" if at else f"{stem}.gif"))]
    outputs = [_output(name, one=bool(at)) for name in names]
    return [*outputs, Output(sheet, "sheet")] if sheet is not None else outputs


def _output(name: str, *, one: bool) -> Output:
    from facemorph_core.pictures.outputs import Output
    from facemorph_core.pictures.series import series_of

    if one:
        return Output(name, "picture")
    if not name.lower().endswith(".png") or series_of(name):
        return Output(name, "film")
    tell(
        f"warning: {name} becomes a contact sheet; write --sheet {name} for that, or "
        "--at 0.5 for one frame: in a later version -o takes no .png",
        err=True,
    )
    return Output(name, "sheet")


def check_places(at: list[float] | None, last: int, *, boomerang: bool) -> None:
    for alpha in at or []:
        if not alpha <= last:
            raise typer.BadParameter(f"--at {alpha:g} lies beyond the photos: it ends at {last}")
    if at and boomerang:
        raise typer.BadParameter("--at takes single frames, and --boomerang is for films")


def check_encoders(outputs: list[Output], *, alone: bool) -> None:
    """What cannot be encoded here is told at once; if it is all there is, nothing is begun."""
    from facemorph_core.pictures.outputs import can_be_encoded

    problems = [problem for problem in map(can_be_encoded, outputs) if problem is not None]
    if alone and len(problems) == len(outputs):
        raise problems[0]
    for problem in problems:
        tell(f"warning: {problem}; the rest is written", err=True)


def raise_problems(outcomes: list[Outcome]) -> None:
    """What could not be written ends the command as a failure, once all else is written."""
    problems = [outcome for outcome in outcomes if outcome.problem is not None]
    if problems:
        from facemorph_core.errors import OutputError

        named = "; ".join(f"{each.output.name}: {each.problem}" for each in problems)
        first = problems[0].problem
        raise OutputError(f"not written: {named}", hint=first.hint if first else None)


def frames_told(film: MorphFilm, at: list[float] | None) -> str:
    if not at:
        return f"{len(film)} frames"
    return f"the frame at {at[0]:g}" if len(at) == 1 else f"{len(at)} frames"


def check_distinct(paths: list[Path]) -> None:
    """No output may take the place of another."""
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise typer.BadParameter(f"'{path}' is asked for twice")
        seen.add(path.resolve())


def frame_count(photos: int, steps: int, loop: bool, boomerang: bool) -> int:
    """How many frames there will be."""
    there = photos * (steps - 1) if loop else (photos - 1) * (steps - 1) + 1
    return 2 * there - 2 if boomerang else there
