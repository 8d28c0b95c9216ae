"""What several commands about morphs are asked in the same words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemorph_core.alignment.detector_names import DetectorName
from facemorph_core.latent.interpolations import Interpolation
from facemorph_core.machine.printable import tell
from facemorph_core.morphing.choices import Compose, Curve, Ease, Mode

if TYPE_CHECKING:
    from facemorph_core.alignment.align import FaceChoice
    from facemorph_core.alignment.given import Eyes
    from facemorph_core.bundle.read import Bundle
    from facemorph_core.morphing.engine import MorphFace

__all__ = [
    "ComposeOption",
    "DetectorOption",
    "EaseOption",
    "EyesOption",
    "FaceOption",
    "FitOption",
    "ForceOption",
    "FpsOption",
    "HoldOption",
    "JsonOption",
    "LandmarksOption",
    "ModeOption",
    "ModelOption",
    "PathOption",
    "ProvenanceOption",
    "ShapeCurveOption",
    "SizeOption",
    "StepsOption",
    "TextureCurveOption",
    "check_photos",
    "doubts_about",
    "doubts_told",
    "face_choices",
    "files_read",
    "model_facts",
]

ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Bundle, run directory, hub://HOST:PORT/NAME@VERSION, or starter: the one that "
        "comes with this program. [default: starter]"
    ),
]
ModeOption = Annotated[
    Mode,
    typer.Option(
        help="full: shape, the model's texture and the photos' detail; latent: the model "
        "alone; landmark: warp and fade, without a model."
    ),
]
ComposeOption = Annotated[
    Compose, typer.Option(help="The face in its frame, or whole photos with the morph in them.")
]
StepsOption = Annotated[
    int, typer.Option(min=2, help="Frames from a photo to the next, both included.")
]
EaseOption = Annotated[
    Ease, typer.Option(help="Spacing of the frames; perceptual: equal steps to the eye.")
]
ShapeCurveOption = Annotated[Curve, typer.Option(help="When features move.")]
TextureCurveOption = Annotated[Curve, typer.Option(help="When skin and hair change.")]
PathOption = Annotated[
    Interpolation, typer.Option(help="Codes on a straight line or great circle.")
]
FitOption = Annotated[
    int, typer.Option(min=0, help="Steps that bring codes nearer to their photos, slowly.")
]
FaceOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Which of several faces: a number (1 is the largest), or 'only' to refuse "
        "several. Give it once for all photos or once for each."
    ),
]
EyesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X,Y,X,Y",
        help="Where the eyes are, where no detector finds them: pixels of the upright photo, the "
        "eye on the left first. Once for each photo, - where a detector is to look.",
    ),
]
LandmarksOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="68 landmarks, a table x,y or .pts ('faces PHOTO -o FILE' writes one). Once for each "
        "photo, - where a detector is to look.",
    ),
]
DetectorOption = Annotated[
    DetectorName,
    typer.Option(
        help="Who finds faces: dlib, whose weights exclude commercial use; mediapipe, which also "
        "knows small and turned ones; either: mediapipe where dlib finds none."
    ),
]
SizeOption = Annotated[
    int | None,
    typer.Option(
        min=16,
        max=8192,
        help="Longer side of the pictures, pixels. [default: 256; of whole photos the first "
        "one's own, at most 2048]",
    ),
]
FpsOption = Annotated[float, typer.Option(min=1, max=120, help="Frames a second.")]
HoldOption = Annotated[float, typer.Option(min=0, max=60, help="Seconds on each photo.")]
ProvenanceOption = Annotated[
    bool,
    typer.Option(
        "--provenance/--no-provenance", help="Say in each file that it is synthetic, and how."
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


def face_choices(
    texts: list[str] | None,
    photos: int,
    *,
    eyes: list[str] | None = None,
    landmarks: list[str] | None = None,
) -> list[FaceChoice]:
    """One for each photo from what was given with --face, --eyes and --landmarks."""
    given = texts or []
    if len(given) not in (0, 1, photos):
        raise typer.BadParameter(f"give --face once for all photos or once for each of {photos}")
    choices = [_choice(text) for text in given] or ["largest"]
    choices = choices if len(choices) == photos else choices * photos
    from facemorph_core.alignment.given import GivenLandmarks
    from facemorph_core.alignment.landmark_files import read_landmarks

    said = [(number, _eyes(text)) for number, text in _of_photos(eyes, photos, option="--eyes")] + [
        (number, GivenLandmarks(read_landmarks(Path(text))))
        for number, text in _of_photos(landmarks, photos, option="--landmarks")
    ]
    numbers = [number for number, _ in said]
    if len(set(numbers)) < len(numbers):
        raise typer.BadParameter("a photo has --eyes or --landmarks, not both")
    for number, where in said:
        choices[number] = where
    return choices


def _of_photos(texts: list[str] | None, photos: int, *, option: str) -> list[tuple[int, str]]:
    """The numbers of the photos that something is said of, and what."""
    given = texts or []
    if len(given) not in (0, photos):
        raise typer.BadParameter(
            f"give {option} once for each of {photos} photos, - where a detector is to look"
        )
    return [(number, text) for number, text in enumerate(given) if text != "-"]


def _eyes(text: str) -> Eyes:
    from facemorph_core.alignment.given import Eyes

    try:
        x1, y1, x2, y2 = map(float, text.split(","))
    except ValueError:
        x1 = y1 = x2 = y2 = math.nan
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise typer.BadParameter(f"'{text}' is not where two eyes are: X,Y,X,Y in pixels")
    return Eyes((x1, y1), (x2, y2))


def _choice(text: str) -> FaceChoice:
    from facemorph_core.alignment.align import face_choice

    try:
        return face_choice(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def check_photos(photos: list[Path]) -> None:
    """Refuse what is no file before anything is loaded for it."""
    from facemorph_core.alignment.photo import open_photo

    for photo in photos:
        open_photo(photo).close()


def files_read(
    files: list[Path], model: str | None, landmarks: list[str] | None = None
) -> list[Path]:
    """What nothing may be written over: these files, and the model if it is named as one."""
    named = [each for each in landmarks or [] if each != "-"]
    return [*files, *map(Path, named), *([Path(model)] if model else [])]


def doubts_about(faces: Iterable[MorphFace]) -> list[tuple[object, str]]:
    """The photos, and what is doubtful about their faces."""
    return [(face.photo, doubt) for face in faces for doubt in face.doubts]


def doubts_told(
    found: Iterable[tuple[object, str]], *, most: int | None = None, rest_in: object = None
) -> list[dict[str, str]]:
    """Doubts about photos, each once, for --json; the first ``most`` are said on stderr, too."""
    told = [{"photo": str(photo), "doubt": doubt} for photo, doubt in dict.fromkeys(found)]
    for each in told[:most]:
        tell(f"warning: {each['photo']}: {each['doubt']}", err=True)
    if most is not None and len(told) > most:
        tell(f"warning: and {len(told) - most} more doubts, in {rest_in}", err=True)
    return told


def model_facts(bundle: Bundle) -> dict[str, Any]:
    """Which model it was, for --json."""
    return {"name": bundle.manifest.name, "path": str(bundle.path), "sha256": bundle.digest}
