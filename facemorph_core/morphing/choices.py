"""What can be chosen for a morph, by name. Nothing is imported: a command's help reads this."""

from __future__ import annotations

from typing import Literal

__all__ = ["LONGEST_SIDE", "Compose", "Curve", "Ease", "Mode"]

Mode = Literal["full", "latent", "landmark"]
"""Which layers make a frame, see `morphing.layers`."""
Compose = Literal["frame", "photo"]
"""What is shown: the aligned frame, or the whole photos with the morph in them."""
Curve = Literal["linear", "smooth", "early", "late"]
"""At what pace something changes, see `morphing.curves`."""
Ease = Literal["linear", "smooth", "perceptual"]
"""How the frames are spaced: evenly, slowly at the ends, or in steps that look equal."""

LONGEST_SIDE = 2048
"""Pixels of whole photos unless more are asked for: what players show without effort."""
