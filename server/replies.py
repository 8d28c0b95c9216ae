"""Is a site's reply fit to be merged? Nothing of it is trusted before this says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, Message
from numpy.typing import NDArray

from facemorph_core.errors import FederationError
from facemorph_core.learning.federated import Refusal, RoundReport, ScoreSums
from facemorph_core.learning.federated.codec import Travelling
from facemorph_core.learning.federated.npy import array_in
from facemorph_core.learning.federated.update import Layout, names_problem
from facemorph_core.learning.federated.wire import FIGURES, NAME, SITE, WEIGHTS

NO_SCORES = (Refusal.NOTHING_TO_SCORE, Refusal.LIMITS_EXCEEDED, Refusal.BUDGET_EXHAUSTED)
"""Answers of a site that may well train without scoring: no fault of its own."""
_NPY = "numpy.ndarray"  # Flower's word for the bytes of an npy file


def checked_training(reply: Message) -> RoundReport:
    """The report of a reply that brings weights.

    Raises:
        FederationError: with the first reason against it.
    """
    report = RoundReport.parse(figures_of(reply))
    if list(reply.content.array_records) != [WEIGHTS]:
        raise FederationError("the reply does not hold one record of weights")
    return report


def checked_arrays(reply: Message, expected: Layout) -> Travelling:
    """The arrays that a reply brings, which are of the ``expected`` layout.

    Raises:
        FederationError: with the first reason why they are not.
    """
    record = reply.content.array_records[WEIGHTS]
    problem = names_problem(record, expected)
    if problem is not None:
        raise FederationError(problem)
    return {name: _array(name, record[name], *expected[name]) for name in expected}


def checked_scores(reply: Message) -> ScoreSums | None:
    """The sums of a reply, or None from a site that has or allows none.

    Raises:
        FederationError: with the first reason against it.
    """
    if reply.has_error() and reply.error.code in NO_SCORES:
        return None
    return ScoreSums.parse(figures_of(reply))


def site_name(reply: Message) -> str | None:
    """What the site calls itself, if it is a short line of text."""
    if not reply.has_content() or SITE not in reply.content.config_records:
        return None
    name = reply.content.config_records[SITE].get(NAME)
    usable = isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable()
    return str(name) if usable else None


def _array(name: str, array: Array, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    """What was declared is looked at first, for a reason that helps; then the bytes themselves."""
    if array.stype != _NPY:
        raise FederationError(f"{name} is not an npy array")
    if array.shape != shape:
        raise FederationError(f"{name} has shape {array.shape!r:.60} instead of {shape}")
    if array.dtype != str(kind):
        raise FederationError(f"{name} is {array.dtype!r:.20} instead of {kind}")
    try:
        return array_in(array.data, shape, kind)
    except FederationError as error:
        raise FederationError(f"{name} cannot be read: {error}") from None


def figures_of(reply: Message) -> Mapping[str, object]:
    """The figures of a reply as they came.

    Raises:
        FederationError: it has none.
    """
    if reply.has_error():
        raise FederationError(_reason(reply.error.code))
    if list(reply.content.metric_records) != [FIGURES]:
        raise FederationError("the reply does not hold one record of figures")
    return dict(reply.content.metric_records[FIGURES])


def _reason(code: int) -> str:
    """Our own sentence for a known code; Flower's text could hold a path of the site."""
    try:
        return Refusal(code).sentence
    except ValueError:
        return f"the site could not be reached or failed (Flower's error code {code})"
