"""Activation of the virtual environment keeps this checkout's Flower apart from all others.

Flower's local SuperLink is one per home and port, and remembers the folder it was first started
in. Two checkouts that shared one would run each other's code.
"""

from __future__ import annotations

import shlex
import sys
import zlib
from pathlib import Path

from facemorph_core.machine import loopback
from facemorph_core.machine.quiet import SWITCHES

_MARK = "# facemorph: Flower of this checkout alone"
_FIRST_PORT, _PORTS = 20_000, 10_000
_PAST_THE_PROXY = f"""eval "$({shlex.quote(sys.executable)} -I {shlex.quote(loopback.__file__)})"
"""
"""Flower's commands that are typed into this shell reach this machine past its proxy, too."""


def extend_activation(venv: Path) -> None:
    """Append the settings to ``bin/activate`` of ``venv``, once."""
    script = venv / "bin" / "activate"
    text = script.read_text(encoding="utf-8").split(_MARK)[0].rstrip("\n")
    script.write_text(f"{text}\n\n{settings(venv.resolve().parent)}", encoding="utf-8")


def settings(checkout: Path) -> str:
    """Shell lines; the ports follow from the checkout's path."""
    switches = "\n".join(f"export {name}={value}" for name, value in SWITCHES.items())
    port = _FIRST_PORT + 2 * (zlib.crc32(str(checkout).encode()) % (_PORTS // 2))
    return f"""{_MARK}
export FLWR_HOME="{checkout}/.flwr"
export FLWR_LOCAL_SUPERLINK_HTTP_API_PORT={port}
export FLWR_LOCAL_CONTROL_API_PORT={port + 1}
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
{switches}
export OPENBLAS_NUM_THREADS=1
export FACEMORPH_RUNS="{checkout}/runs"
{_PAST_THE_PROXY}"""
