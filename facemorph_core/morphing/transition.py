"""The way from one face to another: two faces taken apart once, and any picture between them.

Alpha runs from 0, the first face, to 1, the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from facemorph_core.alignment.frame import FRAME_SIZE
from facemorph_core.alignment.photo import on_white
from facemorph_core.latent.interpolate import path as latent_path
from facemorph_core.latent.interpolations import Interpolation
from facemorph_core.machine.threads import side_by_side
from facemorph_core.morphing.choices import Curve, Ease
from facemorph_core.morphing.curves import bent, equal_steps
from facemorph_core.morphing.layers import Layers
from facemorph_core.morphing.view import View
from facemorph_core.morphing.visible_steps import visible_steps

__all__ = ["DEFAULT_STEPS", "Look", "Transition", "alphas", "spaced"]

Alphas = NDArray[np.float64]
Look = Callable[[NDArray[np.float64]], View]
"""What is shown with some weights of the faces."""

DEFAULT_STEPS = 21
"""Frames of a morph between two photos: alpha in steps of 0.05."""


@dataclass(frozen=True, slots=True, eq=False)
class Transition:
    """Pictures are (h, w, 3 or 4) uint8, as ``look`` shows them."""

    layers: Layers
    look: Look
    path: Interpolation = "lerp"
    shape_curve: Curve = "linear"
    texture_curve: Curve = "linear"
    ease: Ease = "linear"

    def frames(self, places: Alphas) -> NDArray[np.uint8]:
        """The pictures at the alphas ``places`` (n,)."""
        return np.stack(side_by_side([partial(self.frame, alpha) for alpha in places.tolist()]))

    def frame(self, alpha: float) -> NDArray[np.uint8]:
        """The picture at ``alpha``.

        Raises:
            ValueError: alpha is not between 0 and 1.
        """
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is from 0, the first face, to 1, the second (got {alpha})")
        return self._seen(alpha, self.look)

    def positions(self, steps: int = DEFAULT_STEPS) -> Alphas:
        """The alphas (steps,) of a morph, as ``ease`` spaces them."""
        if self.ease == "perceptual":
            return self.equal_to_the_eye(steps)
        return spaced(steps, self.ease)

    def equal_to_the_eye(
        self, steps: int = DEFAULT_STEPS, *, known: Mapping[float, NDArray[np.uint8]] | None = None
    ) -> Alphas:
        """The alphas (steps,) between which the frame changes by equal steps.

        What is ``known`` of the frames (128, 128, C) by alpha is not drawn again.
        """
        view, there = View.of_frame(FRAME_SIZE), dict(known or {})

        def changes(places: Alphas) -> NDArray[np.float64]:
            missing = [alpha for alpha in places.tolist() if alpha not in there]
            jobs = [partial(self._seen, alpha, lambda _: view) for alpha in missing]
            drawn = there | dict(zip(missing, side_by_side(jobs), strict=True))
            return visible_steps(np.stack([on_white(drawn[alpha]) for alpha in places.tolist()]))

        return equal_steps(changes, steps)

    def _seen(self, alpha: float, look: Look) -> NDArray[np.uint8]:
        split, join = self.layers.bundle.geometry.split, self.layers.bundle.geometry.join
        first, second = (face.code for face in self.layers.faces)
        ways = np.array([alpha])
        shape, texture = (bent(ways, curve) for curve in (self.shape_curve, self.texture_curve))
        code = join(
            split(latent_path(first, second, shape, self.path))[0],
            split(latent_path(first, second, texture, self.path))[1],
        )[0]
        moved, dyed = (np.array([1 - part[0], part[0]]) for part in (shape, texture))
        return self.layers.frame(code, moved, dyed, look(moved))


def spaced(steps: int, ease: Curve) -> Alphas:
    """The alphas (steps,) of a morph along a curve."""
    return bent(alphas(steps), ease)


def alphas(steps: int) -> NDArray[np.float64]:
    """``steps`` equal steps from 0 to 1, both included."""
    if steps < 2:
        raise ValueError(f"a morph has at least its two ends, so steps >= 2 (got {steps})")
    return np.linspace(0, 1, steps)
