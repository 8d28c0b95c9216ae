"""Pages that a run leaves for people: one HTML file, no network needed to open it."""

from facemorph_core.learning.report.run_report import write_run_report

__all__ = ["write_run_report"]
