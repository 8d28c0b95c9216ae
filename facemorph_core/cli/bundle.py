"""`facemorph-core bundle RUN`: a checkpoint of a run as one verified file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from facemorph_core.errors import MissingExtra
from facemorph_core.output import check_writable


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
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT if it exists.")] = False,
) -> None:
    """Turn an aggregated checkpoint of a run into a bundle.

    Examples:
      facemorph-core bundle runs/demo
          runs/demo/model.facemorph from the newest checkpoint
      facemorph-core bundle runs/demo --round 3 -o early.facemorph
    """
    if out is not None:
        check_writable(out, force=force)
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("train", needed_for="facemorph-core bundle")

    from facemorph_core.bundle import verify
    from facemorph_core.export import bundle_run

    made = verify(bundle_run(run, round=round, out=out))
    typer.echo(f"{made.path}: {made.path.stat().st_size / 1e6:.1f} MB, sha256 {made.digest}")
