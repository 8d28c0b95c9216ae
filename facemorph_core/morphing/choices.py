"""What can be chosen for a morph, by name. Nothing is imported: a command's help reads this."""

from __future__ import annotations

from typing import Literal

__all__ = ["Curve", "Ease", "Mode"]

Mode = Literal["full", "latent", "landmark"]
"""Which layers make a frame, see `morphing.layers`."""
Curve = Literal["linear", "smooth", "early", "late"]
"""At what pace something changes, see `morphing.curves`."""
Ease = Literal["linear", "smooth", "perceptual"]
"""How the frames are spaced: evenly, slowly at the ends, or in steps that look equal."""
