"""`facemorph-core faces PHOTO`: which faces there are, and which number each of them has."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemorph_core.cli.complete import complete_files
from facemorph_core.cli.morph_options import DetectorOption, ForceOption, JsonOption, check_photos
from facemorph_core.machine.printable import tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from facemorph_core.alignment.landmarks import DetectedFace


def command(
    photo: Annotated[
        Path, typer.Argument(metavar="PHOTO", help="A photo.", shell_complete=complete_files)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The photo with numbered boxes (.png, .jpg, .webp), or the landmarks of one face "
            "(.csv, .pts), to be edited and given to --landmarks.",
        ),
    ] = None,
    face: Annotated[int, typer.Option(min=1, help="Whose landmarks are written: its number.")] = 1,
    detector: DetectorOption = "dlib",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the faces of a photo, in the order that --face counts.

    Examples:
      facemorph-core faces group.jpg -o boxes.jpg
          the photo with a numbered box for everybody
      facemorph-core faces anna.jpg -o anna.csv
          her 68 landmarks, for: facemorph-core morph anna.jpg ben.jpg --landmarks anna.csv
          --landmarks -
    """
    from facemorph_core.alignment.landmark_files import SUFFIXES

    check_photos([photo])
    if out is not None:
        _check_output(out, photo, landmark_files=SUFFIXES, force=force)
    from facemorph_core.alignment.align import choose_face
    from facemorph_core.alignment.detectors import detector_named
    from facemorph_core.alignment.photo import load_photo

    image, found_by = load_photo(photo), detector_named(detector)
    found = found_by.detect(image)
    if not found or (out is not None and out.suffix.lower() in SUFFIXES):
        choose_face(image, found_by, face, name=photo)  # says what is wrong, if it is
    facts = [_facts(number, each, image) for number, each in enumerate(found, 1)]
    if out is not None:
        _write(out, image, found, face, force=force)
    if as_json:
        written = [str(out)] if out is not None else []
        tell(json.dumps({"photo": str(photo), "faces": facts, "written": written}))
        return
    tell("face  score  between the eyes  turned  box")
    for each in facts:
        tell(_line(each))
    if out is not None:
        tell(str(out))


def _check_output(out: Path, photo: Path, *, landmark_files: tuple[str, ...], force: bool) -> None:
    from facemorph_core.disk.output import check_writable
    from facemorph_core.morphing.blend import check_picture

    if out.suffix.lower() in landmark_files:
        check_writable(out, force=force, inputs=[photo])
    else:
        check_picture(out, force=force, inputs=[photo])


def _facts(number: int, face: DetectedFace, image: NDArray[np.uint8]) -> dict[str, Any]:
    from facemorph_core.alignment.doubts import doubts_about, turn_of
    from facemorph_core.alignment.frame import eye_centres

    left, right = eye_centres(face.landmarks).round(1).tolist()
    said = doubts_about(face, (), (image.shape[0], image.shape[1]))
    return {
        "number": number,
        "score": round(face.score, 3),
        "box": [round(edge) for edge in face.box],
        "eyes": [left, right],
        "eye_distance": round(math.dist(left, right), 1),
        "turn": round(turn_of(face.landmarks), 1),
        "landmarks": face.landmarks.round(2).tolist(),
        "doubts": [*face.doubts, *said],
    }


def _line(face: dict[str, Any]) -> str:
    left, top, right, bottom = face["box"]
    where = f"{right - left} x {bottom - top} at {left}, {top}"
    eyes, turn = f"{face['eye_distance']:.0f} px", f"{face['turn']:.0f}°"
    line = f"{face['number']:<4}  {face['score']:<5.2f}  {eyes:<16}  {turn:<6}  {where}"
    return "\n".join([line, *(f"      {doubt}" for doubt in face["doubts"])])


def _write(
    out: Path, image: NDArray[np.uint8], faces: list[DetectedFace], number: int, *, force: bool
) -> None:
    from facemorph_core.alignment.landmark_files import SUFFIXES, write_landmarks
    from facemorph_core.disk.output import written_whole
    from facemorph_core.pictures.encoders import write_picture
    from facemorph_core.pictures.marked_faces import draw_boxes

    if out.suffix.lower() in SUFFIXES:
        write_landmarks(out, faces[number - 1].landmarks, force=force)
        return
    picture = draw_boxes(image, [face.box for face in faces], [face.landmarks for face in faces])
    with written_whole(out, force=force) as temporary:
        write_picture(picture, temporary, None)
