"""`facemorph-core batch PAIRS.csv`: a morph for every line of a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from facemorph_core.cli.morph_options import (
    ComposeOption,
    DetectorOption,
    EaseOption,
    FaceOption,
    FitOption,
    FpsOption,
    HoldOption,
    JsonOption,
    ModelOption,
    ModeOption,
    PathOption,
    ProvenanceOption,
    ShapeCurveOption,
    SizeOption,
    StepsOption,
    TextureCurveOption,
    doubts_told,
    face_choices,
)
from facemorph_core.machine.printable import tell
from facemorph_core.pictures.formats import FPS, HOLD

Format = Literal["gif", "mp4", "webp", "mov", "webm", "avif", "apng", "png"]
NAMED = 5
"""Problems that are told one by one, and doubts."""


def command(
    pairs: Annotated[
        Path,
        typer.Argument(
            help="A CSV file with the columns a and b, and face, face_a or face_b where another "
            "face than that of --face is meant; paths are relative to it."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the morphs; an unfinished one goes on.")
    ],
    form: Annotated[
        Format, typer.Option("--format", help="Of each morph; png is a contact sheet.")
    ] = "gif",
    model: ModelOption = None,
    mode: ModeOption = "full",
    compose: ComposeOption = "frame",
    steps: StepsOption = 21,
    ease: EaseOption = "linear",
    shape_curve: ShapeCurveOption = "linear",
    texture_curve: TextureCurveOption = "linear",
    path: PathOption = "lerp",
    fit: FitOption = 0,
    face: FaceOption = None,
    detector: DetectorOption = "dlib",
    size: SizeOption = None,
    fps: FpsOption = FPS,
    hold: HoldOption = HOLD,
    provenance: ProvenanceOption = True,
    as_json: JsonOption = False,
) -> None:
    """Morph every pair of a table.

    A line whose photos cannot be used is told at the end and stops nothing, and so is what is
    doubtful about a face. Called again, only what is missing is made, and what has other photos or
    faces now.

    Examples:
      facemorph-core batch pairs.csv --out morphs/
          morphs/0001-anna-ben.gif and so on
      facemorph-core batch pairs.csv --format mp4 --compose photo --out films/
          whole photos as videos
    """
    from facemorph_core.alignment.detectors import detector_named
    from facemorph_core.bundle import open_bundle
    from facemorph_core.bundle.find import find_model
    from facemorph_core.machine.progress import progress_bar
    from facemorph_core.morphing.batch import MADE, jobs_of, run_batch
    from facemorph_core.morphing.engine import Morpher
    from facemorph_core.morphing.pair_table import read_pairs
    from facemorph_core.pictures.encoders import check_encoder

    check_encoder(f".{form}")
    first, second = face_choices(face, 2)
    jobs = jobs_of(read_pairs(pairs, faces=(first, second)), f".{form}")
    morpher = Morpher(
        open_bundle(find_model(model)),
        mode=mode,
        compose=compose,
        size=size,
        path=path,
        shape_curve=shape_curve,
        texture_curve=texture_curve,
        ease=ease,
        fit=fit,
        detector=detector_named(detector),
    )
    saved = {"fps": fps, "hold": hold, "provenance": provenance}
    with progress_bar("morphs") as progress:
        outcomes = run_batch(jobs, morpher, out, steps=steps, saved=saved, progress=progress)
    failed = [outcome for outcome in outcomes if outcome.problem]
    made = sum(outcome.tried_now for outcome in outcomes) - len(failed)
    found = (doubt for outcome in outcomes for doubt in outcome.doubts)
    doubts = doubts_told(found, most=NAMED, rest_in=out / MADE)
    if as_json:
        problems = [
            {"line": each.job.line, "file": each.job.file, "problem": each.problem}
            for each in failed
        ]
        facts = {"pairs": len(outcomes), "made": made, "failed": problems, "warnings": doubts}
        tell(json.dumps(facts | {"folder": str(out)}))
    else:
        there = len(outcomes) - made - len(failed)
        tell(f"{out}: {made} made, {there} there before, {len(failed)} failed")
    if failed:
        from facemorph_core.errors import PairsError

        told = "; ".join(f"line {each.job.line}, {each.problem}" for each in failed[:NAMED])
        more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        raise PairsError(
            f"{len(failed)} of {len(outcomes)} pairs could not be morphed: {told}{more}",
            hint="mend the photos and give the same command again: it makes what is missing",
        )
