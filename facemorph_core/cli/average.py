"""`facemorph-core average A B=2 C`: one face from several, by weight."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from facemorph_core.cli.complete import complete_files
from facemorph_core.cli.morph_options import (
    ComposeOption,
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
    SizeOption,
    check_photos,
    doubts_told,
    face_choices,
    files_read,
    model_facts,
)
from facemorph_core.machine.printable import tell

NAMED = 12
"""Photos whose share is told."""


def command(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO[=WEIGHT] ...",
            help="Photos, folders of photos, or patterns in quotes; a weight is that of each "
            "photo, 1 if not given.",
            shell_complete=complete_files,
        ),
    ],
    model: ModelOption = None,
    mode: ModeOption = "full",
    compose: ComposeOption = "frame",
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
            help=".png, .jpg, .webp, .tif or .avif. [default: A-B-average.png beside A, photo "
            "or folder]",
        ),
    ] = None,
    size: SizeOption = None,
    provenance: ProvenanceOption = True,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Average faces, each by its weight, on this machine.

    Examples:
      facemorph-core average anna.jpg ben.jpg carla.jpg -o three.png
          a third of each
      facemorph-core average anna.jpg=3 ben.jpg -o mostly-anna.png
          three quarters of the first
      facemorph-core average people/ "shots/*.jpg=2" -o mean.jpg
          all photos in a folder, and each of others twice as much
    """
    started = time.monotonic()
    from facemorph_core.cli.photo_arguments import given_photos, names_of
    from facemorph_core.disk.output import named_after
    from facemorph_core.morphing.blend import check_picture

    given = given_photos(photos)
    paths = [path for each in given for path in each.photos]
    if len(paths) < 2:
        raise typer.BadParameter("an average takes two photos or more")
    check_photos(paths)
    names = names_of(given)
    output = out or names[0].with_name(f"{named_after(names)}-average.png")
    check_picture(output, force=force, inputs=files_read(paths, model, landmarks))
    choices = face_choices(face, len(paths), eyes=eyes, landmarks=landmarks)

    import numpy as np

    from facemorph_core.alignment.detectors import detector_named
    from facemorph_core.bundle import open_bundle
    from facemorph_core.bundle.find import find_model
    from facemorph_core.machine.progress import progress_bar
    from facemorph_core.morphing.engine import Morpher

    bundle = open_bundle(find_model(model))
    found_by = detector_named(detector)
    morpher = Morpher(bundle, mode=mode, compose=compose, size=size, fit=fit, detector=found_by)
    with progress_bar("photos") as progress:
        faces = morpher.faces(paths, choices, progress=progress)
    weights = np.array([[each.weight for each in given for _ in each.photos]])
    made = morpher.blend(faces, weights)
    made.save(output, force=force, provenance=provenance)
    doubts = doubts_told(faces)
    if as_json:
        facts: dict[str, Any] = {"written": [str(output)], "model": model_facts(bundle)}
        facts |= {"mode": mode, "warnings": doubts}
        facts |= {"photos": [str(path) for path in paths], "weights": made.weights[0].tolist()}
        tell(json.dumps(facts | {"seconds": time.monotonic() - started}))
    else:
        shares = zip(paths[:NAMED], made.weights[0].tolist(), strict=False)
        shown = ", ".join(f"{share:.0%} {path.name}" for path, share in shares)
        if len(paths) > NAMED:
            shown += f" and {len(paths) - NAMED} more"
        tell(f"{output}: {shown} by the model '{bundle.manifest.name}'")
