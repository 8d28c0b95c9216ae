r"""Codes that draw a face better than the encoder's answer does.

An encoder answers at once, and for a face that it never saw its answer is not the best code that
the decoder has. Gauss-Newton steps in the code alone lower the weighed squared error of the drawn
picture, with J the derivative of the picture by the code:

.. math:: z' = z + (J^T W J + \lambda I)^{-1} J^T W (x - D(z))

J is taken by forward differences: D + 1 pictures a step, drawn by whatever runs the decoder, so no
gradient is needed. One step brings most of what there is to gain.

References:
    | Semi-Amortized Variational Autoencoders (Kim et al., 2018): the gap that this closes
    | Numerical Optimization (Nocedal & Wright, 2006), section 10.3
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draw", "fitted"]

Numbers = NDArray[np.float32]
Draw = Callable[[Numbers], Numbers]
"""Codes (n, D) -> pictures (n, 3, S, S) in [-1, 1]."""

DIFFERENCE = 0.1
"""How far a number is moved to see what it does, of the code's root mean square."""
DAMPING = 0.01
"""Lambda, of the mean of the diagonal of J^T W J: numbers that draw nothing stay where they are."""
LENGTHS = (1.0, 0.5, 0.25)
"""Of a step, tried in turn: it is taken only if the error falls."""


def fitted(
    codes: Numbers, pictures: Numbers, weights: Numbers, draw: Draw, *, steps: int
) -> Numbers:
    """Codes (n, D) that draw the ``pictures`` (n, 3, S, S) at least as well as ``codes`` do.

    An error at a pixel counts by ``weights`` (n, S, S).
    """
    faces = zip(codes, pictures, weights, strict=True)
    found = [_fitted_one(*face, draw, steps) for face in faces]
    return np.stack(found) if found else codes


def _fitted_one(
    code: Numbers, picture: Numbers, weight: Numbers, draw: Draw, steps: int
) -> Numbers:
    roots = np.sqrt(np.broadcast_to(weight, picture.shape)).ravel()  # of W
    wanted = picture.ravel() * roots
    made = draw(code[None]).reshape(-1) * roots
    for _ in range(steps):
        reach = DIFFERENCE * max(float(np.sqrt(np.square(code).mean())), 1e-3)
        moved = draw(code + reach * np.eye(len(code), dtype=np.float32))
        derivative = (moved.reshape(len(code), -1) * roots - made) / reach
        normal = derivative @ derivative.T
        normal[np.diag_indices_from(normal)] += DAMPING * normal.diagonal().mean() + 1e-12
        step = np.linalg.solve(normal, derivative @ (wanted - made))
        tried = code + np.multiply.outer(LENGTHS, step).astype(np.float32)
        drawn = draw(tried).reshape(len(LENGTHS), -1) * roots
        errors = np.square(drawn - wanted).sum(axis=1)
        best = int(errors.argmin())
        if not errors[best] < np.square(made - wanted).sum():
            break
        code, made = tried[best], drawn[best]
    return code
