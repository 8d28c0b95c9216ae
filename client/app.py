"""The ClientApp: unpack a message, run one round on this node's faces, pack the answer.

The same code runs at a site and in a simulation. It builds the model itself, takes weights of
exactly that model, and sends back how encoder and decoder changed, counts and figures: never a
photo, a code of a face, a file name, the discriminator, or the text of an exception.
"""

from __future__ import annotations

import logging
from pathlib import Path

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from torch import Tensor

from client.node import Site
from client.rounds import evaluate_round, train_round
from facemorph_core.config import RunConfig, load_run_config
from facemorph_core.config.load import split_overrides
from facemorph_core.learning.federated import Handshake, refusal_for, wire

log = logging.getLogger("flwr")
APP = Path(__file__).resolve().parent.parent


def refusals_without_details(
    message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """Answer an error with its code; what happened in detail stays in this site's log."""
    try:
        return call_next(message, context)
    except Exception as error:
        refusal = refusal_for(error)
        log.error("round refused (%s): %s", refusal.name, error, exc_info=error)
        return Message(Error(code=refusal, reason=refusal.sentence), reply_to=message)


app = ClientApp(mods=[refusals_without_details])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on this node's faces for one round."""
    config, request, weights = unpack(message, context)
    site = Site.of(context, config, run_id=request.run_id)
    update, report = train_round(request, weights, site, config)
    arrays = ArrayRecord({name: Array(value) for name, value in update.items()})
    return answer(message, site, report.as_record(), arrays=arrays)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the global model on the faces that this node does not train on."""
    config, request, weights = unpack(message, context)
    site = Site.of(context, config, run_id=request.run_id)
    return answer(message, site, evaluate_round(request, weights, site, config))


def unpack(message: Message, context: Context) -> tuple[RunConfig, wire.Request, dict[str, Tensor]]:
    """This node's own config, the request and its weights, if the server runs the same on it."""
    config = load_run_config(
        APP / str(context.run_config["config"]),
        split_overrides(str(context.run_config["overrides"])),
    )
    sent = message.content.config_records[wire.CONFIG]
    Handshake.here(config, APP).require(dict(sent))
    weights = message.content.array_records[wire.WEIGHTS].to_torch_state_dict()
    return config, wire.Request.parse(sent), weights


def answer(
    message: Message,
    site: Site,
    record: dict[str, int | float],
    *,
    arrays: ArrayRecord | None = None,
) -> Message:
    """The reply with this site's chosen name; an update only after training."""
    content = RecordDict({wire.FIGURES: MetricRecord({**record})})
    content[wire.SITE] = ConfigRecord({wire.NAME: site.name})
    if arrays is not None:
        content[wire.WEIGHTS] = arrays
    return Message(content, reply_to=message)
