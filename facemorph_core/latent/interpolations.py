"""How codes are interpolated, by name. Nothing is imported: a command's help reads this."""

from __future__ import annotations

from typing import Literal

__all__ = ["Interpolation"]

Interpolation = Literal["lerp", "slerp"]
"""On a straight line, or on a great circle."""
