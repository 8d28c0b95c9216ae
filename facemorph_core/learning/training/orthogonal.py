r"""The orthogonal matrices nearest to gradients, roughly and fast: the heart of Muon.

Newton and Schulz's iteration drives every singular value of X towards 1 without a decomposition:

.. math:: X \leftarrow (a I + b A + c A^2) X, \qquad A = X X^T

With Jordan's coefficients five steps bring them between 0.7 and 1.2, which is enough. Written
like that each step multiplies the long matrix X twice. But A obeys an iteration of its own
(A <- P A P with P = a I + b A + c A^2, for all of these commute), so that several steps need
only products of small square matrices, and X is multiplied once, by the product of their P.
Errors of A grow tenfold a step: float32 bears all five, and ends within a thousandth of the
iteration as it is written; in bfloat16 A is made anew from X after two of them.

References:
    | Muon (Jordan et al., 2024), https://kellerjordan.github.io/posts/muon
    | Functions of Matrices (Higham, 2008), chapter 8
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = {torch.bfloat16: (2, 3), torch.float32: (5,)}
"""Steps between two looks at the long matrix, in turn."""
LARGEST = 192
"""Rows that are made orthogonal to each other: the cost of a matrix grows with their square."""
_SMALLEST = 1e-7


def orthogonal(
    gradients: Sequence[Float[Tensor, "_ _"]], *, dtype: torch.dtype
) -> list[Float[Tensor, "_ _"]]:
    """The factor U V^T of each matrix U S V^T, its singular values about 1.

    It is computed in ``dtype`` and comes in it: bfloat16 or float32, whichever is fast here. A
    matrix with more than LARGEST rows and columns is taken in equal parts of the shorter side,
    each by itself. Directions that a gradient does not know stay 0.
    """
    wide = [g if g.shape[0] <= g.shape[1] else g.T for g in gradients]
    parts = [part for g in wide for part in g.chunk(math.ceil(len(g) / LARGEST))]
    found = iter(_by_shape(parts, dtype))
    made = []
    for gradient, g in zip(gradients, wide, strict=True):
        count = len(g.chunk(math.ceil(len(g) / LARGEST)))
        whole = torch.cat([next(found) for _ in range(count)])
        made.append(whole if g is gradient else whole.T)
    return made


def _by_shape(parts: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Parts of one shape are multiplied together: many small products are slow one by one."""
    places = defaultdict(list)
    for place, part in enumerate(parts):
        places[part.shape].append(place)
    made: dict[int, Tensor] = {}
    for alike in places.values():
        # no singular value is larger than the root of the sum of their squares
        x = torch.stack([parts[i].to(dtype) for i in alike])
        x /= torch.linalg.matrix_norm(x, keepdim=True).clamp(min=_SMALLEST)
        for steps in ITERATIONS[dtype]:
            x = torch.bmm(_whitening(torch.bmm(x, x.mT), steps), x)
        made |= zip(alike, x.unbind(), strict=True)
    return [made[place] for place in range(len(parts))]


def _whitening(a: Float[Tensor, "k m m"], steps: int) -> Float[Tensor, "k m m"]:
    """The product of ``steps`` steps' P for matrices X with X X^T = ``a``."""
    p = product = _polynomial(a)
    for _ in range(steps - 1):
        a = torch.bmm(torch.bmm(p, a), p)
        p = _polynomial(a)
        product = torch.bmm(p, product)
    return product


def _polynomial(a: Float[Tensor, "k m m"]) -> Float[Tensor, "k m m"]:
    """P of one step."""
    alone, once, twice = COEFFICIENTS
    p = torch.baddbmm(a, a, a, beta=once, alpha=twice)
    p.diagonal(dim1=1, dim2=2).add_(alone)
    return p
