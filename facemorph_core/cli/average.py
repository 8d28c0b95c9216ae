"""`facemorph-core average A B=2 C`: one face from several, by weight."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from facemorph_core.cli.complete import complete_files
from facemorph_core.cli.morph_options import (
    ComposeOption,
    FaceOption,
    FitOption,
    ForceOption,
    JsonOption,
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


def command(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO[=WEIGHT] ...",
            help="Photos; a weight is 1 if not given.",
            shell_complete=complete_files,
        ),
    ],
    model: ModelOption = None,
    mode: ModeOption = "full",
    compose: ComposeOption = "frame",
    fit: FitOption = 0,
    face: FaceOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help=".png, .jpg or .webp. [default: A-B-average.png beside A]"
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
    """
    started = time.monotonic()
    if len(photos) < 2:
        raise typer.BadParameter("an average takes two photos or more")
    from facemorph_core.disk.output import named_after
    from facemorph_core.morphing.blend import check_picture

    weighed = [_weighed(text) for text in photos]
    paths = [path for path, _ in weighed]
    check_photos(paths)
    output = out or paths[0].with_name(f"{named_after(paths)}-average.png")

    check_picture(output, force=force, inputs=files_read(paths, model))
    choices = face_choices(face, len(paths))

    import numpy as np

    from facemorph_core.bundle import open_bundle
    from facemorph_core.bundle.find import find_model
    from facemorph_core.machine.progress import progress_bar
    from facemorph_core.morphing.engine import Morpher

    bundle = open_bundle(find_model(model))
    morpher = Morpher(bundle, mode=mode, compose=compose, size=size, fit=fit)
    with progress_bar("photos") as progress:
        faces = morpher.faces(paths, choices, progress=progress)
    weights = np.array([[weight for _, weight in weighed]])
    made = morpher.blend(faces, weights)
    made.save(output, force=force, provenance=provenance)
    doubts = doubts_told(faces)
    if as_json:
        facts: dict[str, Any] = {"written": [str(output)], "model": model_facts(bundle)}
        facts |= {"mode": mode, "warnings": doubts}
        shares = made.weights[0].tolist()
        tell(json.dumps(facts | {"weights": shares, "seconds": time.monotonic() - started}))
    else:
        shown = ", ".join(
            f"{share:.0%} {path.name}"
            for path, share in zip(paths, made.weights[0].tolist(), strict=True)
        )
        tell(f"{output}: {shown} by the model '{bundle.manifest.name}'")


def _weighed(text: str) -> tuple[Path, float]:
    """A photo and its weight; a file whose name holds "=" is that file."""
    name, equals, number = text.rpartition("=")
    if not equals or _is_file(Path(text)):
        return Path(text), 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise typer.BadParameter(
            f"'{text}' is no file, and '{number}' behind its '=' no weight: a number above 0"
        )
    if not name:
        raise typer.BadParameter(f"'{text}' has a weight, but no photo")
    return Path(name), weight


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for one
        return False
