"""`facemorph-core bundle RUN`: a checkpoint of a run as one verified file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from facemorph_core.bundle.find import SUFFIX
from facemorph_core.disk.output import check_writable
from facemorph_core.errors import MissingExtra
from facemorph_core.machine.printable import tell


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")],
    round: Annotated[
        int | None,
        typer.Option(min=0, help="Round (or epoch) to take. [default: the newest]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write. [default: RUN/model.facemorph]"),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="SCORES.json",
            help="Of `evaluate --report` with this model: they become the bundle's figures.",
        ),
    ] = None,
    notes: Annotated[
        Path | None,
        typer.Option(metavar="NOTES.md", help="What else the card shall say, in Markdown."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT if it exists.")] = False,
) -> None:
    """Turn an aggregated checkpoint of a run into a bundle.

    Examples:
      facemorph-core bundle runs/demo
          runs/demo/model.facemorph from the newest checkpoint
      facemorph-core bundle runs/demo --round 3 -o early.facemorph
      facemorph-core evaluate --model runs/demo --shard shard/ --by-group --report scores/
      facemorph-core bundle runs/demo --scores scores/scores.json
          with intervals and groups of people in the model card
    """
    if out is not None:
        read = [file for file in run.rglob("*") if file.suffix != SUFFIX]
        read += [path for path in (scores, notes) if path is not None]
        check_writable(out, force=force, inputs=read)
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("train", needed_for="facemorph-core bundle")

    from facemorph_core.bundle import verify
    from facemorph_core.learning.release import bundle_run

    made = verify(bundle_run(run, round=round, out=out, scores=scores, notes=notes))
    tell(f"{made.path}: {made.path.stat().st_size / 1e6:.1f} MB, sha256 {made.digest}")
