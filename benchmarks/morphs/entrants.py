"""The programs that are compared, as a person types them, and two photos to give them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.morphs import opencv_morph
from facemorph_core.alignment.dlib_files import landmark_weights
from facemorph_core.errors import FaceMorphError, MissingExtra

__all__ = ["OPENCV", "PEER_HINT", "Entrant", "ours", "plain", "portraits", "published"]

OPENCV = "plain OpenCV morph"
GIF, MP4 = "morph.gif", "morph.mp4"
PIXELS = 1_000_000
"""Of each portrait."""

PEER_HINT = (
    "python -m venv peer && peer/bin/pip install facemorph==0.1, then --facemorph peer/bin/python"
)


@dataclass(frozen=True, slots=True)
class Entrant:
    """A command, typed in a new and empty folder."""

    name: str
    words: Sequence[str]
    writes: str = ""
    """The file that it makes there; empty if it makes none."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that are set for it."""


def ours(a: Path, b: Path) -> list[Entrant]:
    """Morphs by `facemorph-core`, and its help."""
    program = str(Path(sysconfig.get_path("scripts")) / "facemorph-core")
    morph = (program, "morph", str(a), str(b))
    gif, told = (*morph, "-o", GIF), "facemorph-core morph"
    return [
        Entrant("facemorph-core --help", (program, "--help")),
        Entrant(told, gif, GIF),
        Entrant(f"{told} --mode landmark", (*gif, "--mode", "landmark"), GIF),
        Entrant(f"{told}, the first on a machine", gif, GIF, {"FACEMORPH_CACHE": "cache"}),
        Entrant(told, (*morph, "-o", MP4), MP4),
    ]


def plain(a: Path, b: Path) -> list[Entrant]:
    """What tutorials teach, see `opencv_morph`."""
    script = (sys.executable, opencv_morph.__file__, str(a), str(b))
    return [Entrant(OPENCV, (*script, out, str(landmark_weights())), out) for out in (GIF, MP4)]


def published(python: Path, folder: Path) -> Entrant:
    """PyPI's ``facemorph`` in the environment of ``python``, on the two photos in ``folder``.

    It cuts two pixels off each side of its video.

    Raises:
        FaceMorphError: it is not installed there.
    """
    asked = "from importlib.metadata import version; print(version('facemorph'))"
    try:
        found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise FaceMorphError(f"{python} has no facemorph of PyPI", hint=PEER_HINT) from error
    frames, fps = opencv_morph.FRAMES, opencv_morph.FPS
    options = (
        *(f"--input-dir={folder}", f"--output={MP4}", f"--output-size={opencv_morph.SIZE + 4}"),
        *(f"--duration={frames / fps}", f"--fps={fps}"),
    )
    name = f"facemorph {found.stdout.strip()} (PyPI)"
    return Entrant(name, (str(python), "-m", "facemorph.cli", *options), MP4)


def portraits(folder: Path) -> tuple[Path, Path]:
    """Grace Hopper and Eileen Collins (public domain), each of PIXELS pixels, as JPEG."""
    try:
        import matplotlib
        import skimage.data
    except ImportError as error:
        raise MissingExtra("dev", needed_for="a morph without photos of your own") from error
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    made = folder / "hopper.jpg", folder / "collins.jpg"
    photos = Image.open(hopper), Image.fromarray(skimage.data.astronaut())
    for photo, file in zip(photos, made, strict=True):
        scale = np.sqrt(PIXELS / (photo.width * photo.height))
        size = round(photo.width * scale), round(photo.height * scale)
        photo.resize(size, Image.Resampling.BICUBIC).save(file, quality=95)
    return made
