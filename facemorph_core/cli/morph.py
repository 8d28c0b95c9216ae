"""`facemorph-core morph A B`: a GIF, a video or pictures of faces becoming each other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemorph_core.latent.kinds import Kind
from facemorph_core.morphing.choices import FPS, HOLD, Compose, Curve, Ease, Mode

if TYPE_CHECKING:
    from facemorph_core.alignment.align import FaceChoice
    from facemorph_core.bundle.read import Bundle


def command(
    photos: Annotated[
        list[Path],
        typer.Argument(metavar="A B [C ...]", help="Photos, in the order of the morph."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Bundle, run directory, hub://HOST:PORT/NAME@VERSION, or starter: the one that "
            "comes with this program. [default: starter]"
        ),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="full: shape, the model's texture and the photos' detail; latent: the model "
            "alone; landmark: warp and fade, without a model."
        ),
    ] = "full",
    compose: Annotated[
        Compose, typer.Option(help="The face in its frame, or whole photos with the morph in them.")
    ] = "frame",
    steps: Annotated[
        int, typer.Option(min=2, help="Frames from a photo to the next, both included.")
    ] = 21,
    ease: Annotated[
        Ease, typer.Option(help="Spacing of the frames; perceptual: equal steps to the eye.")
    ] = "linear",
    shape_curve: Annotated[Curve, typer.Option(help="When features move.")] = "linear",
    texture_curve: Annotated[Curve, typer.Option(help="When skin and hair change.")] = "linear",
    path: Annotated[Kind, typer.Option(help="Codes on a straight line or great circle.")] = "lerp",
    fit: Annotated[
        int, typer.Option(min=0, help="Steps that bring codes nearer to their photos, slowly.")
    ] = 0,
    face: Annotated[
        list[str] | None,
        typer.Option(
            help="Which of several faces: a number (1 is the largest), or 'only' to refuse "
            "several. Give it once for all photos or once for each."
        ),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Back to the first photo.")] = False,
    boomerang: Annotated[bool, typer.Option("--boomerang", help="There and back.")] = False,
    out: Annotated[
        list[str] | None,
        typer.Option(
            "--out",
            "-o",
            help=".gif, .mp4, .webp, .png (contact sheet) or a folder/ of PNG frames; may be "
            "repeated. [default: A-B.gif beside A]",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=16,
            max=8192,
            help="Longer side of the pictures, pixels. [default: 256; of whole photos the first "
            "one's own, at most 2048]",
        ),
    ] = None,
    fps: Annotated[float, typer.Option(min=1, max=120, help="Frames a second.")] = FPS,
    hold: Annotated[float, typer.Option(min=0, max=60, help="Seconds on each photo.")] = HOLD,
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance/--no-provenance", help="Say in each file that it is synthetic, and how."
        ),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Morph faces into each other on this machine; nothing is uploaded.

    Examples:
      facemorph-core morph anna.jpg ben.jpg
          anna-ben.gif beside the first photo
      facemorph-core morph anna.jpg ben.jpg carla.jpg --loop --ease perceptual -o all.mp4
          from each to the next and back to the first, in steps that look equal
      facemorph-core morph anna.jpg group.jpg --face 1 --face 3 -o a.mp4 -o sheet.png
          the third largest face of the group; a video and a contact sheet
      facemorph-core morph anna.jpg ben.jpg --compose photo -o whole.mp4
          the whole photos, with hair, clothes and background
    """
    started = time.monotonic()
    if len(photos) < 2:
        raise typer.BadParameter("a morph takes two photos or more")
    from facemorph_core.morphing.media import check_output

    outputs = out or [str(photos[0].with_name("-".join(p.stem for p in photos) + ".gif"))]
    for output in outputs:
        check_output(output, force=force, count=_count(len(photos), steps, loop, boomerang))
    choices = _choices(face or [], len(photos))
    _check_photos(photos)

    from facemorph_core.bundle import find_model, open_bundle

    bundle = open_bundle(find_model(model))

    from facemorph_core.morphing.engine import Morpher

    morpher = Morpher(
        bundle,
        mode=mode,
        compose=compose,
        size=size,
        path=path,
        shape_curve=shape_curve,
        texture_curve=texture_curve,
        ease=ease,
        fit=fit,
    )
    faces = morpher.faces(photos, choices)
    sequence = morpher.sequence(faces, steps=steps, loop=loop)
    if boomerang:
        sequence = sequence.boomerang()
    written = [
        sequence.save(each, fps=fps, hold=hold, force=force, provenance=provenance)
        for each in outputs
    ]
    if as_json:
        facts = _facts(bundle, [file for files in written for file in files])
        facts |= {"mode": mode, "alphas": sequence.alphas.tolist()}
        typer.echo(json.dumps(facts | {"seconds": time.monotonic() - started}))
    else:
        typer.echo(
            f"{', '.join(outputs)}: {len(sequence)} frames from {photos[0].name} to "
            f"{photos[-1].name} by the model '{bundle.manifest.name}'"
        )


def _count(photos: int, steps: int, loop: bool, boomerang: bool) -> int:
    """How many frames there will be."""
    there = photos * (steps - 1) if loop else (photos - 1) * (steps - 1) + 1
    return 2 * there - 2 if boomerang else there


def _choices(texts: list[str], photos: int) -> list[FaceChoice]:
    if len(texts) not in (0, 1, photos):
        raise typer.BadParameter(f"give --face once for all photos or once for each of {photos}")
    choices = [_choice(text) for text in texts] or ["largest"]
    return choices if len(choices) == photos else choices * photos


def _choice(text: str) -> FaceChoice:
    if text == "largest":
        return "largest"
    if text == "only":
        return "only"
    if not text.isdecimal():
        raise typer.BadParameter(f"'{text}' is neither a face number, 'largest' nor 'only'")
    return int(text)


def _check_photos(photos: list[Path]) -> None:
    from facemorph_core.alignment.photo import load_photo

    for photo in photos:
        if not photo.is_file():
            load_photo(photo)  # says what is wrong with it


def _facts(bundle: Bundle, files: list[Path]) -> dict[str, Any]:
    model = {"name": bundle.manifest.name, "path": str(bundle.path), "sha256": bundle.digest}
    return {"written": [str(file) for file in files], "model": model}
