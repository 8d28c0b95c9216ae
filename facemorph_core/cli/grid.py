"""`facemorph-core grid A B C D`: the faces between four, in one picture."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from facemorph_core.cli.morph_options import (
    DetectorOption,
    EyesOption,
    FaceOption,
    FitOption,
    ForceOption,
    JsonOption,
    LandmarksOption,
    ModelOption,
    ModeOption,
    ProvenanceOption,
    check_photos,
    doubts_about,
    doubts_told,
    face_choices,
    files_read,
    model_facts,
)
from facemorph_core.machine.printable import tell

CORNERS = 4


def command(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B C D", help="Photos for top left, top right, bottom left, bottom right."
        ),
    ],
    side: Annotated[int, typer.Option(min=2, max=15, help="Pictures in a row and column.")] = 5,
    model: ModelOption = None,
    mode: ModeOption = "full",
    fit: FitOption = 0,
    face: FaceOption = None,
    eyes: EyesOption = None,
    landmarks: LandmarksOption = None,
    detector: DetectorOption = "dlib",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help=".png, .jpg, .webp, .tif or .avif. [default: A-B-C-D-grid.png beside A]",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(min=16, max=1024, help="Side of one of the pictures, pixels.")
    ] = 256,
    provenance: ProvenanceOption = True,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw the faces between four people as a grid, on this machine.

    Examples:
      facemorph-core grid anna.jpg ben.jpg carla.jpg dan.jpg -o four.png
          25 pictures, the photos in the corners
    """
    started = time.monotonic()
    if len(photos) != CORNERS:
        raise typer.BadParameter(f"a grid is between four photos (got {len(photos)})")
    from facemorph_core.disk.output import named_after
    from facemorph_core.morphing.blend import check_picture, corner_weights

    check_photos(photos)
    output = out or photos[0].with_name(f"{named_after(photos)}-grid.png")
    check_picture(output, force=force, inputs=files_read(photos, model, landmarks))
    choices = face_choices(face, CORNERS, eyes=eyes, landmarks=landmarks)

    from facemorph_core.alignment.detectors import detector_named
    from facemorph_core.bundle import open_bundle
    from facemorph_core.bundle.find import find_model
    from facemorph_core.machine.progress import progress_bar
    from facemorph_core.morphing.engine import Morpher

    bundle = open_bundle(find_model(model))
    found_by = detector_named(detector)
    morpher = Morpher(bundle, mode=mode, size=size, fit=fit, detector=found_by)
    faces = morpher.faces(photos, choices)
    with progress_bar("pictures") as progress:
        made = morpher.blend(faces, corner_weights(side), progress=progress)
    made.save(output, columns=side, force=force, provenance=provenance)
    doubts = doubts_told(doubts_about(faces))
    if as_json:
        facts: dict[str, Any] = {"written": [str(output)], "model": model_facts(bundle)}
        facts |= {"mode": mode, "warnings": doubts}
        tell(json.dumps(facts | {"side": side, "seconds": time.monotonic() - started}))
    else:
        tell(
            f"{output}: {side * side} pictures between {', '.join(p.name for p in photos)} "
            f"by the model '{bundle.manifest.name}'"
        )
