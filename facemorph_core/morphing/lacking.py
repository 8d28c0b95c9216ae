r"""Where a photo has nothing, another one shows what it has.

A portrait that was cropped to the face ends inside the frame, and beyond it goes on as a blur. As
soon as another face has a part in the picture, that face's photo takes over there. Of each face
remains what is there, and what is lost of the places' shares v goes to those who have something:

.. math:: k_i = 1 - r_i m_i, \qquad t_i = q_i \sum_j v_j (1 - k_j)

with what is missing :math:`m` in 0..1, :math:`q_i \propto w_i (1 - m_i)` and :math:`r` from 0 at a
weight of 1 to 1 at one of 1 - SOON. With all weight on one photo nothing is handed over: no special
case. Where none has anything, the blurs fade.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["handed_over"]

Values = NDArray[np.float32]

SOON = 0.2
"""Weight of the others with which they have taken over."""
NOTHING = 1e-4
"""How much of its weight a photo keeps where it has nothing."""


def handed_over(
    shares: Values, lacking: Values, weights: NDArray[np.float64]
) -> tuple[Values, Values]:
    """What P faces with ``weights`` keep of their ``shares`` (h, w, P), and what they take.

    ``lacking`` (h, w, P) is what each photo does not have; k and t are (h, w, P).
    """
    given = np.clip((1 - weights) / SOON, 0, 1).astype(np.float32)
    kept = 1 - lacking * (given * given * (3 - 2 * given))
    able = weights.astype(np.float32) * (1 - (1 - NOTHING) * lacking)
    lost = (shares * (1 - kept)).sum(axis=-1, keepdims=True)
    return kept, lost * able / np.maximum(able.sum(axis=-1, keepdims=True), NOTHING**2)
