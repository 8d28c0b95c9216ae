"""What the libraries beneath us would tell their makers is switched off before they are imported.

ONNX Runtime (1.32 and newer, on Linux too) writes a device id and events into the user's cache as
it is imported, and sends them; Flower reports every start and end, and asks for newer versions; Ray
reports a cluster an hour. This holds whatever the environment said: the photos' owners were
promised that nothing is uploaded.
"""

from __future__ import annotations

import logging
import os
import sys

__all__ = ["SWITCHES", "switch_off"]

SWITCHES = {
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables of the environment; processes that we start inherit them."""

_READ_AT_IMPORT = {
    "flwr.supercore.telemetry": "FLWR_TELEMETRY_ENABLED",
    "onnxruntime": "ORT_DISABLE_TELEMETRY",
}
"""Modules that look at their variable once."""

log = logging.getLogger(__name__)


def switch_off() -> None:
    """Set all of SWITCHES; a warning names what was imported too early to heed them."""
    for module, variable in _READ_AT_IMPORT.items():
        if module in sys.modules and os.environ.get(variable) != SWITCHES[variable]:
            log.warning(
                "%s was imported before facemorph_core and reports to its maker; "
                "set %s=%s in the environment",
                *(module.partition(".")[0], variable, SWITCHES[variable]),
            )
    os.environ.update(SWITCHES)
