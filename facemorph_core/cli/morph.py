"""`facemorph-core morph A B`: a GIF, a video or pictures of faces becoming each other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from facemorph_core.cli.complete import complete_files
from facemorph_core.cli.morph_options import (
    ComposeOption,
    DetectorOption,
    EaseOption,
    EyesOption,
    FaceOption,
    FitOption,
    ForceOption,
    FpsOption,
    HoldOption,
    JsonOption,
    LandmarksOption,
    ModelOption,
    ModeOption,
    PathOption,
    ProvenanceOption,
    ShapeCurveOption,
    SizeOption,
    StepsOption,
    TextureCurveOption,
    check_photos,
    doubts_about,
    doubts_told,
    face_choices,
    files_read,
    model_facts,
)
from facemorph_core.cli.morph_outputs import (
    check_distinct,
    check_encoders,
    check_places,
    frame_count,
    frames_told,
    raise_problems,
    wanted_outputs,
)
from facemorph_core.machine.printable import tell
from facemorph_core.morphing.choices import Mode
from facemorph_core.pictures.formats import FPS, HOLD, PLAYED_SIZE

if TYPE_CHECKING:
    from facemorph_core.morphing.engine import Morpher
    from facemorph_core.morphing.layers import Face
    from facemorph_core.pictures.provenance import Note

MODES: tuple[Mode, ...] = get_args(Mode)
PAGES = (".html", ".htm")
LARGEST_STRIP = 512
"""Side of its frames, pixels: it is looked at, not played."""


def command(
    photos: Annotated[
        list[Path],
        typer.Argument(metavar="A B [C ...]", help="Photos, in the order of the morph."),
    ],
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
    eyes: EyesOption = None,
    landmarks: LandmarksOption = None,
    detector: DetectorOption = "dlib",
    loop: Annotated[bool, typer.Option("--loop", help="Back to the first photo.")] = False,
    boomerang: Annotated[bool, typer.Option("--boomerang", help="There and back.")] = False,
    out: Annotated[
        list[str] | None,
        typer.Option(
            "--out",
            "-o",
            help=".gif, .mp4, .webp, .mov (ProRes 4444), .webm, .avif, .apng, or a folder/ of PNG "
            "frames; may be repeated. [default: A-B.gif beside A]",
            shell_complete=complete_files,
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="A contact sheet of all frames (.png, .jpg, .webp, .tif); without -o, that alone."
        ),
    ] = None,
    at: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            help="One frame instead of a film: 0 is the first photo, 1 the second. With -o as "
            ".png, .jpg, .webp, .tif or .avif; repeated, as a folder/ or morph-%02d.png.",
        ),
    ] = None,
    size: SizeOption = None,
    fps: FpsOption = FPS,
    hold: HoldOption = HOLD,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Also a page (.html) that says how good the morph is, in all modes; even steps "
            "need the extra train."
        ),
    ] = None,
    strip: Annotated[
        Path | None,
        typer.Option(help="Also a picture (.png, .jpg, .webp) of film strips in all modes."),
    ] = None,
    provenance: ProvenanceOption = True,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Morph faces into each other on this machine; nothing is uploaded.

    Examples:
      facemorph-core morph anna.jpg ben.jpg
          anna-ben.gif beside the first photo
      facemorph-core morph anna.jpg ben.jpg carla.jpg --loop --ease perceptual -o all.mp4
          from each to the next and back to the first, in steps that look equal
      facemorph-core morph anna.jpg group.jpg --face 1 --face 3 -o a.mp4 --sheet sheet.png
          the third largest face of the group; a video and a contact sheet
      facemorph-core morph anna.jpg ben.jpg --at 0.5 -o middle.png
          the frame in the middle alone
      facemorph-core morph anna.jpg ben.jpg --compose photo -o whole.mp4
          the whole photos, with hair, clothes and background
      facemorph-core morph anna.jpg ben.jpg --report how-good.html
          also a page with film strips, curves and figures of all three modes
    """
    started = time.monotonic()
    if len(photos) < 2:
        raise typer.BadParameter("a morph takes two photos or more")
    check_places(at, len(photos) if loop else len(photos) - 1, boomerang=boomerang)
    from facemorph_core.disk.output import check_writable
    from facemorph_core.morphing.blend import check_picture
    from facemorph_core.pictures.outputs import Saved, check_output

    check_photos(photos)
    outputs = wanted_outputs(out, sheet, at, photos)
    beside = [path for path in (report, strip) if path is not None]
    check_distinct([*(Path(output.name) for output in outputs), *beside])
    inputs = files_read(photos, model, landmarks)
    count = len(at) if at else frame_count(len(photos), steps, loop, boomerang)
    for output in outputs:
        check_output(output, force=force, count=count, inputs=inputs)
    if report is not None:
        if report.suffix.lower() not in PAGES:
            raise typer.BadParameter(f"'{report}': the report is a page, {' or '.join(PAGES)}")
        check_writable(report, force=force, inputs=inputs)
    if strip is not None:
        check_picture(strip, force=force, inputs=inputs)
    choices = face_choices(face, len(photos), eyes=eyes, landmarks=landmarks)
    check_encoders(outputs, alone=not beside)

    from facemorph_core.alignment.detectors import detector_named
    from facemorph_core.bundle import open_bundle
    from facemorph_core.bundle.find import find_model
    from facemorph_core.machine.progress import progress_bar
    from facemorph_core.morphing.engine import Morpher

    bundle = open_bundle(find_model(model))
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
        detector=detector_named(detector),
    )
    faces = morpher.faces(photos, choices)
    film = (
        morpher.film_at(faces, at, loop=loop)
        if at
        else morpher.film(faces, steps=steps, loop=loop, boomerang=boomerang)
    )
    saved = Saved(fps=fps, hold=hold, force=force)
    with progress_bar("frames") as progress:
        outcomes = film.save_all(outputs, saved, provenance=provenance, progress=progress)
    stops = [*range(len(faces)), *([0] if loop else [])]
    layers = [faces[stop].layer for stop in stops]
    note = morpher.provenance.note(modes=MODES) if provenance else None
    if report is not None:
        names = [photos[stop].name for stop in stops]
        _write_page(report, morpher, layers, names, note=note)
    if strip is not None:
        _write_strips(strip, morpher, layers, force=force, note=note)
    doubts = doubts_told(doubts_about(faces))
    if as_json:
        files = [file for outcome in outcomes for file in outcome.files]
        problems = [(each.output.name, each.problem) for each in outcomes if each.problem]
        facts = {
            "written": [str(file) for file in [*files, *beside]],
            "failed": [{"output": str(name), "problem": str(said)} for name, said in problems],
            "model": model_facts(bundle),
            "mode": mode,
            "alphas": film.alphas.tolist(),
            "warnings": doubts,
        }
        tell(json.dumps(facts | {"seconds": time.monotonic() - started}))
    else:
        made = [str(each.output.name) for each in outcomes if not each.problem]
        if made or beside:
            tell(
                f"{', '.join([*made, *map(str, beside)])}: {frames_told(film, at)} from "
                f"{photos[0].name} to {photos[-1].name} by the model '{bundle.manifest.name}'"
            )
    raise_problems(outcomes)


def _write_strips(
    out: Path, morpher: Morpher, faces: list[Face], *, force: bool, note: Note | None
) -> None:
    """A picture of each transition in all modes."""
    from itertools import pairwise

    from facemorph_core.disk.output import written_whole
    from facemorph_core.morphing.film_strips import draw_strips, film_strips
    from facemorph_core.pictures.encoders import write_picture

    size = min(morpher.size or PLAYED_SIZE, LARGEST_STRIP)
    strips = film_strips(pairwise(faces), morpher, MODES, size=size)
    with written_whole(out, force=force) as temporary:
        write_picture(draw_strips(strips), temporary, note)


def _write_page(
    page: Path, morpher: Morpher, faces: list[Face], names: list[str], *, note: Note | None
) -> None:
    """Figures, curves and film strips of each transition in all modes.

    Likeness is left out: it is measured against another photo of each person.
    """
    from dataclasses import replace
    from itertools import pairwise
    from tempfile import TemporaryDirectory

    from facemorph_core.evaluation.morphs.judges import judges_here
    from facemorph_core.evaluation.morphs.page import write_morph_report
    from facemorph_core.evaluation.morphs.pairs import ChainPairs
    from facemorph_core.evaluation.morphs.study import run_study
    from facemorph_core.evaluation.morphs.summary import summarised
    from facemorph_core.machine.progress import progress_bar
    from facemorph_core.morphing.film_strips import film_strips

    pairs, about = ChainPairs(faces, names), " to ".join(names)
    with TemporaryDirectory() as folder, progress_bar("judged") as progress:
        where = Path(folder)
        judges = replace(judges_here(), embedder=None)
        study = run_study(pairs, morpher, MODES, judges, where, about=about, progress=progress)
    strips = film_strips(pairwise(faces), morpher, MODES)
    title, summary = "How good is the morph?", summarised(study)
    write_morph_report(page, study, summary, strips, title=title, note=note)
