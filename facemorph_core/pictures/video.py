"""Videos by ffmpeg: MP4 (H.264), MOV (ProRes 4444) and WebM (VP9), each with its note.

MOV and WebM keep transparency where frames have it; in MP4 they lie on white. Frames that stay
longer are repeated: players and editors expect an even pace.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.photo import on_white
from facemorph_core.pictures.boxes import box, boxes
from facemorph_core.pictures.ffmpeg import find_ffmpeg, run_ffmpeg
from facemorph_core.pictures.provenance import Note
from facemorph_core.pictures.sides import Frame

__all__ = ["VIDEO_ENCODERS", "write_mov", "write_mp4", "write_webm"]

VIDEO_ENCODERS = {".mp4": "libx264", ".mov": "prores_ks", ".webm": "libvpx-vp9"}
"""Which of ffmpeg's encoders each needs."""
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # XMP specification part 3, 1.1.5.3


@dataclass(frozen=True, slots=True)
class _Kind:
    """How frames become a video; pixel formats without and with alpha, and options."""

    encoder: str
    opaque: str
    clear: str | None = None
    options: str = ""
    when_clear: str = ""
    even: bool = False


_MP4 = _Kind(VIDEO_ENCODERS[".mp4"], "yuv420p", options="-crf 16 -movflags +faststart", even=True)
_MOV = _Kind(
    VIDEO_ENCODERS[".mov"],
    "yuv444p10le",
    "yuva444p10le",
    options="-profile:v 4444 -vendor apl0",
)
_WEBM = _Kind(
    VIDEO_ENCODERS[".webm"],
    "yuv420p",
    "yuva420p",
    # the encoder promises the same bits with rows side by side only in some of its versions
    options="-crf 20 -b:v 0 -deadline good -cpu-used 2 -row-mt 0",
    when_clear="-auto-alt-ref 0",  # VP9's hidden frames cannot be transparent
)


def write_mp4(
    frames: Iterable[Frame], path: Path, seconds: Sequence[float], note: Note | None
) -> None:
    """H.264 as browsers want it: yuv420p, even sides, the index in front."""
    _encode(_MP4, frames, path, seconds, _comment(note))
    if note is not None:
        with path.open("ab") as video:
            video.write(box(b"uuid", _XMP_BOX + note.xmp))


def write_mov(
    frames: Iterable[Frame], path: Path, seconds: Sequence[float], note: Note | None
) -> None:
    """ProRes 4444 as editors want it: ten bits, full colour resolution, alpha."""
    _encode(_MOV, frames, path, seconds, _comment(note))
    if note is not None:
        _add_to_movie(path, box(b"udta", box(b"XMP_", note.xmp)))


def write_webm(
    frames: Iterable[Frame], path: Path, seconds: Sequence[float], note: Note | None
) -> None:
    """VP9 with alpha. The packet is a tag: WebM has no place of its own for XMP."""
    said = [] if note is None else [*_comment(note), "-metadata", f"XMP={note.xmp.decode()}"]
    _encode(_WEBM, frames, path, seconds, said)


def _encode(
    kind: _Kind, frames: Iterable[Frame], path: Path, seconds: Sequence[float], said: list[str]
) -> None:
    program = find_ffmpeg(kind.encoder)
    arriving = iter(frames)
    first = next(arriving)
    clear = kind.clear is not None and first.shape[2] == 4
    height, width = (side + side % 2 if kind.even else side for side in first.shape[:2])
    pace = 1 / min(seconds)
    layout = "rgba" if clear else "rgb24"
    source = f"-f rawvideo -pix_fmt {layout} -s {width}x{height} -r {pace:g} -i - -an"
    known = "setparams=color_primaries=bt709:color_trc=bt709"
    matrix = f"-vf scale=out_color_matrix=bt709:out_range=tv,{known}"
    tags = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv"
    target = f"-c:v {kind.encoder} {kind.options} {kind.when_clear if clear else ''}"
    pixels = f"-pix_fmt {kind.clear if clear else kind.opaque}"
    exact = "-fflags +bitexact -flags:v +bitexact"
    options = f"-v error -y {source} {matrix} {target} {pixels} {tags} {exact}".split()
    shown = _shown(itertools.chain([first], arriving), seconds, pace, clear=clear, even=kind.even)
    run_ffmpeg([program, *options, *said, str(path.absolute())], shown)


def _shown(
    frames: Iterable[Frame], seconds: Sequence[float], pace: float, *, clear: bool, even: bool
) -> Iterator[memoryview]:
    """Each frame's bytes, as often as it is shown."""
    for frame, stay in zip(frames, seconds, strict=True):
        kept = frame if clear else on_white(frame)
        data = np.ascontiguousarray(_even(kept) if even else kept).data
        yield from itertools.repeat(data, max(1, round(stay * pace)))


def _even(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row or column where a side is odd: 4:2:0 video needs pairs."""
    odd_h, odd_w = (side % 2 for side in frame.shape[:2])
    return np.pad(frame, ((0, odd_h), (0, odd_w), (0, 0)), mode="edge")


def _comment(note: Note | None) -> list[str]:
    return [] if note is None else ["-metadata", f"comment={note.sentence}"]


def _add_to_movie(path: Path, added: bytes) -> None:
    """Put a box at the end of the file's last one, "moov", where QuickTime looks for it."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        name, start, stop = list(boxes(data))[-1]
        assert (name, stop) == (b"moov", len(data)), "ffmpeg writes the index last"
        file.seek(start - 8)
        file.write((stop - start + 8 + len(added)).to_bytes(4, "big"))
        file.seek(stop)
        file.write(added)
