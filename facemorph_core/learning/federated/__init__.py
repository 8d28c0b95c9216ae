"""What client and server agree on: weights that travel, reports, the handshake. No Flower."""

from facemorph_core.learning.federated.handshake import Handshake
from facemorph_core.learning.federated.refusal import Refusal, refusal_for
from facemorph_core.learning.federated.report import (
    RoundReport,
    ScoreSums,
    merge_reports,
    merge_scores,
)
from facemorph_core.learning.federated.update import (
    load_shared_weights,
    shared_weights,
    signature,
    weights_problem,
)

__all__ = [
    "Handshake",
    "Refusal",
    "RoundReport",
    "ScoreSums",
    "load_shared_weights",
    "merge_reports",
    "merge_scores",
    "refusal_for",
    "shared_weights",
    "signature",
    "weights_problem",
]
