"""Where ffmpeg is: the one that is named, the one of imageio-ffmpeg, or the one of the machine.

imageio-ffmpeg's takes 165 MB, more than anything else that a morph needs, so it is the extra
`video`; a machine that has ffmpeg needs no other.
"""

from __future__ import annotations

import importlib.util
import os
import shutil

from facemorph_core.errors import OutputError

__all__ = ["NAMED_BY", "ffmpeg_program"]

NAMED_BY = "IMAGEIO_FFMPEG_EXE"
"""The environment variable that names one."""


def ffmpeg_program() -> str:
    """The program, by name or path.

    Raises:
        OutputError: there is none; the hint says how to get one.
    """
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        found = os.environ.get(NAMED_BY) or shutil.which("ffmpeg")
        if found is None:
            raise _none()
        return found
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise _none() from error


def _none() -> OutputError:
    return OutputError(
        "there is no ffmpeg to write a video with",
        hint='pip install "facemorph-core[video]" brings one (165 MB); or install ffmpeg, '
        f"name one in {NAMED_BY}, or write a .gif or .webp",
    )
