"""`facemorph-core morph A B`: a GIF, a video or pictures of one face becoming another."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemorph_core.latent.interpolate import Kind
from facemorph_core.morphing.media import FPS, check_output

if TYPE_CHECKING:
    from facemorph_core.alignment.align import FaceChoice
    from facemorph_core.bundle.read import Bundle


def command(
    photo_a: Annotated[Path, typer.Argument(metavar="A", help="Photo that the morph starts from.")],
    photo_b: Annotated[Path, typer.Argument(metavar="B", help="Photo that it ends at.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Bundle, run directory, hub://HOST:PORT/NAME@VERSION, or starter: the one that "
            "comes with this program. [default: starter]"
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Frames, both ends included.")] = 21,
    path: Annotated[Kind, typer.Option(help="Straight line or great circle.")] = "lerp",
    fit: Annotated[
        int, typer.Option(min=0, help="Steps that bring both ends nearer to their photos, slowly.")
    ] = 0,
    face: Annotated[
        list[str] | None,
        typer.Option(
            help="Which of several faces: a number (1 is the largest), or 'only' to refuse "
            "several. Give it twice for A and B."
        ),
    ] = None,
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
        int | None, typer.Option(min=16, max=4096, help="Side of the pictures, pixels.")
    ] = None,
    fps: Annotated[float, typer.Option(min=1, max=120, help="Frames a second.")] = FPS,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Morph one face into another on this machine; nothing is uploaded.

    Examples:
      facemorph-core morph anna.jpg ben.jpg
          anna-ben.gif beside the first photo
      facemorph-core morph anna.jpg group.jpg --face 1 --face 3 -o a.mp4 -o sheet.png
          the third largest face of the group; a video and a contact sheet
    """
    started = time.monotonic()
    outputs = out or [str(photo_a.with_name(f"{photo_a.stem}-{photo_b.stem}.gif"))]
    for output in outputs:
        check_output(output, force=force, count=steps)
    choices = _choices(face or [])
    _check_photos(photo_a, photo_b)

    from facemorph_core.bundle import find_model, open_bundle

    bundle = open_bundle(find_model(model))

    from facemorph_core.morphing.engine import morph

    sequence = morph(photo_a, photo_b, steps=steps, model=bundle, path=path, face=choices, fit=fit)
    written = [sequence.save(each, fps=fps, size=size, force=force) for each in outputs]
    if as_json:
        facts = _facts(bundle, [file for files in written for file in files])
        facts |= {"alphas": sequence.alphas.tolist(), "seconds": time.monotonic() - started}
        typer.echo(json.dumps(facts))
    else:
        typer.echo(
            f"{', '.join(outputs)}: {len(sequence)} frames from {photo_a.name} to {photo_b.name} "
            f"by the model '{bundle.manifest.name}'"
        )


def _choices(texts: list[str]) -> tuple[FaceChoice, FaceChoice]:
    if len(texts) > 2:
        raise typer.BadParameter("give it once for both photos or twice, for A and B")
    first, *rest = [_choice(text) for text in texts] or ["largest"]
    return first, rest[0] if rest else first


def _choice(text: str) -> FaceChoice:
    if text == "largest":
        return "largest"
    if text == "only":
        return "only"
    if not text.isdecimal():
        raise typer.BadParameter(f"'{text}' is neither a face number, 'largest' nor 'only'")
    return int(text)


def _check_photos(*photos: Path) -> None:
    from facemorph_core.alignment.photo import load_photo

    for photo in photos:
        if not photo.is_file():
            load_photo(photo)  # says what is wrong with it


def _facts(bundle: Bundle, files: list[Path]) -> dict[str, Any]:
    model = {"name": bundle.manifest.name, "path": str(bundle.path), "sha256": bundle.digest}
    return {"written": [str(file) for file in files], "model": model}
