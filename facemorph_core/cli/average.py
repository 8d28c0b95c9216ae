"""`facemorph-core average A B=2 C`: one face from several, by weight."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    doubts_about,
    doubts_told,
    face_choices,
    files_read,
    model_facts,
)
from facemorph_core.machine.printable import tell

if TYPE_CHECKING:
    from facemorph_core.alignment.align import FaceChoice
    from facemorph_core.morphing.engine import Morpher, MorphFace

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
    from facemorph_core.errors import PhotoError
    from facemorph_core.machine.progress import progress_bar
    from facemorph_core.machine.threads import side_by_side
    from facemorph_core.morphing.engine import Morpher

    bundle = open_bundle(find_model(model))
    found_by = detector_named(detector)
    morpher = Morpher(bundle, mode=mode, compose=compose, size=size, fit=fit, detector=found_by)
    meant = [each for each in given for _ in each.photos]
    with progress_bar("photos") as progress:
        looks = [
            partial(_face, morpher, path, choice, must_be=not each.searched)
            for path, choice, each in zip(paths, choices, meant, strict=True)
        ]
        looked = side_by_side(looks, progress)
    usable = [(f, each.weight) for f, each in zip(looked, meant, strict=True) if f is not None]
    if len(usable) < 2:
        raise PhotoError(photos[0], f"of {len(paths)} photos {len(usable)} can be used, not two")
    faces, paths = [f for f, _ in usable], [f.photo for f, _ in usable if f.photo is not None]
    made = morpher.blend(faces, np.array([[weight for _, weight in usable]]))
    made.save(output, force=force, provenance=provenance)
    doubts = doubts_told(doubts_about(faces))
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


def _face(morpher: Morpher, photo: Path, choice: FaceChoice, *, must_be: bool) -> MorphFace | None:
    """The face; None, and a warning, if there is none in a photo that was not named itself."""
    from facemorph_core.errors import PhotoError

    try:
        return morpher.face(photo, choice)
    except PhotoError as error:
        if must_be:
            raise
        tell(f"warning: left out, {error}", err=True)
        return None
