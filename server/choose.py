"""Which folder a config runs in: that of its own earlier run, or one of its own."""

from __future__ import annotations

from server.runstate import RUNS

__all__ = ["choose_run"]

choose_run = RUNS.choose
