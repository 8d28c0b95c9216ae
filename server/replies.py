"""Is a site's reply fit to be merged? Nothing of it is trusted before this says so."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from numpy.typing import NDArray

from facemorph_core.errors import FederationError
from facemorph_core.federated import Refusal, RoundReport, ScoreSums
from facemorph_core.federated.codec import Arrays, Codec, decoded
from facemorph_core.federated.update import Signature

WEIGHTS, FIGURES, SITE = "arrays", "metrics", "site"
NO_SCORES = (Refusal.NOTHING_TO_SCORE, Refusal.LIMITS_EXCEEDED, Refusal.BUDGET_EXHAUSTED)
"""Answers of a site that may well train without scoring: no fault of its own."""


def checked_training(reply: Message) -> RoundReport:
    """The report of a reply that brings weights.

    Raises:
        FederationError: with the first reason against it.
    """
    report = RoundReport.parse(_figures(reply))
    if list(reply.content.array_records) != [WEIGHTS]:
        raise FederationError("the reply does not hold one record of weights")
    return report


def update_of(reply: Message, expected: Signature, codec: Codec) -> Arrays:
    """The change of the weights that a reply brings.

    Raises:
        FederationError: with the first reason why it cannot be merged.
    """
    return decoded(arrays_of(weights_of(reply)), expected, codec)


def checked_scores(reply: Message) -> ScoreSums | None:
    """The sums of a reply, or None from a site that has or allows none.

    Raises:
        FederationError: with the first reason against it.
    """
    if reply.has_error() and reply.error.code in NO_SCORES:
        return None
    return ScoreSums.parse(_figures(reply))


def weights_of(reply: Message) -> ArrayRecord:
    """The reply's record of weights."""
    return reply.content.array_records[WEIGHTS]


def arrays_of(record: ArrayRecord) -> dict[str, NDArray[np.generic]]:
    """The record's arrays; FederationError for bytes that are none."""
    try:
        return {name: array.numpy() for name, array in record.items()}
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise FederationError(f"weights that cannot be read ({type(error).__name__})") from None


def size_of(record: ArrayRecord) -> int:
    """Bytes of the record's arrays as they travel."""
    return sum(len(array.data) for array in record.values())


def site_name(reply: Message) -> str | None:
    """What the site calls itself, if it is a short line of text."""
    if not reply.has_content() or SITE not in reply.content.config_records:
        return None
    name = reply.content.config_records[SITE].get("name")
    usable = isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable()
    return str(name) if usable else None


def light(reply: Message) -> Message:
    """The reply without any weights."""
    if reply.has_content():
        content = reply.content
        reply.content = RecordDict({n: content[n] for n in set(content) - {*content.array_records}})
    return reply


def _figures(reply: Message) -> Mapping[str, object]:
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
