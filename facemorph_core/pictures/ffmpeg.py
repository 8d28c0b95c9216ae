"""The ffmpeg at hand: which it is, whether it works, what it can encode, and running it."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache

from facemorph_core.errors import OutputError
from facemorph_core.pictures.ffmpeg_program import NAMED_BY, ffmpeg_program

__all__ = ["find_ffmpeg", "run_ffmpeg"]

OTHERS = ".gif, .webp or .apng"
"""What can be written without it."""
PATIENCE = 20.0
"""Seconds in which it must have listed what it can."""


def find_ffmpeg(encoder: str) -> str:
    """The program, once it is sure that it runs and has the ``encoder``.

    Raises:
        OutputError: there is none, the one that is named does not work, or it lacks the encoder.
    """
    program = ffmpeg_program()
    if encoder not in _encoders(program):
        raise OutputError(
            f"{program} cannot encode with {encoder}",
            hint=f"name an ffmpeg that has it in {NAMED_BY}, or write a {OTHERS}",
        )
    return program


@cache
def _encoders(program: str) -> frozenset[str]:
    """Their names, as it lists them: " V....D libx264   H.264 ..."."""
    try:
        listed = subprocess.run(
            [program, "-v", "error", "-encoders"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise _broken(program, _reason(error)) from error
    lines = listed.stdout.decode(errors="replace").splitlines()
    found = frozenset(line.split()[1] for line in lines if len(line.split()) > 1)
    if not found:
        raise _broken(program, "it lists no encoders: it is not ffmpeg")
    return found


def _broken(program: str, reason: str) -> OutputError:
    if os.environ.get(NAMED_BY) == program:
        return OutputError(
            f"{NAMED_BY} names {program}, which does not work: {reason}",
            hint=f"name one that works, or unset {NAMED_BY}: then that of "
            "imageio-ffmpeg or of the machine is taken",
        )
    return OutputError(
        f"{program}, which would write the video, does not work: {reason}",
        hint=f"name another in {NAMED_BY}, or write a {OTHERS}",
    )


def _reason(error: Exception) -> str:
    match error:
        case subprocess.CalledProcessError():
            said = error.stderr.decode(errors="replace").strip().splitlines()
            return said[-1] if said else f"exit code {error.returncode}"
        case subprocess.TimeoutExpired():
            return f"no answer in {PATIENCE:g} seconds"
        case OSError():
            return error.strerror or str(error)
        case _:
            return str(error)


def run_ffmpeg(command: Sequence[str], pictures: Iterable[bytes | memoryview]) -> None:
    """Give it ``pictures`` on its standard input.

    Raises:
        OutputError: with its last words.
        OSError: the disk is full.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints
        )
        assert process.stdin is not None
        try:
            for picture in pictures:
                process.stdin.write(picture)
            process.communicate()
        except BrokenPipeError:
            process.wait()  # its complaint says why
        finally:
            process.kill()
            process.wait()
        complaints.seek(0)
        text = complaints.read().decode(errors="replace").strip()
    if "No space left" in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if process.returncode:
        reason = text.splitlines()[-1] if text else _ended(process.returncode)
        raise OutputError(f"ffmpeg could not write the video: {reason}")


def _ended(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else "no reason given"
