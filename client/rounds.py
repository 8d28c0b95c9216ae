"""One local round as a function: weights in, an update and a report out. No Flower types."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from client.node import Site
from facemorph_core.config import RunConfig
from facemorph_core.config.schema import VAEGANConfig
from facemorph_core.errors import (
    BudgetExhausted,
    ConfigError,
    DeltaTooLarge,
    LedgerError,
    LimitsExceeded,
    WeightsUnavailable,
)
from facemorph_core.learning.federated import (
    Refusal,
    RoundReport,
    ScoreSums,
    load_shared_weights,
    shared_weights,
)
from facemorph_core.learning.federated.codec import compressed
from facemorph_core.learning.federated.refusal import Refused
from facemorph_core.learning.federated.wire import Request
from facemorph_core.learning.models import Autoencoder, build_model
from facemorph_core.learning.privacy import PlainRelease, SiteLedger, photos_of
from facemorph_core.learning.privacy.photos import distinct
from facemorph_core.learning.training.batches import train_rows
from facemorph_core.learning.training.evaluate import evaluate_rows
from facemorph_core.learning.training.local import DiscriminatorState, LocalRound, train_epochs
from facemorph_core.shards.rows import spread


def train_round(
    request: Request, weights: Mapping[str, Tensor], site: Site, config: RunConfig
) -> tuple[dict[str, NDArray[Any]], RoundReport]:
    """Train the global ``weights`` on the site's faces: the update that leaves, and its report.

    Raises:
        LimitsExceeded, DeltaTooLarge, BudgetExhausted: before a photo is read.
        Refused: under differential privacy for whatever else went wrong after that.
    """
    model = received_model(weights, config)
    work = LocalRound(
        config,
        epochs=config.federation.local_epochs,
        progress=share_of_run(config, request.round),
        seed=stream_seed(config.seed, site.name, request.round),
        proximal_mu=request.proximal_mu,
    )
    if config.privacy is not None:
        # Opacus takes seconds to import, and a site starts a process for every message.
        from facemorph_core.learning.training.private import train_privately

        with one_reason_for_all(site.ledger):
            outcome = train_privately(
                model, site.shard, work, ledger=site.ledger, limits=site.limits
            )
    else:
        site.limits.check_training(config, site.ledger)
        rows, photos = distinct(site.shard, train_rows(site.shard, model.image_size))
        people = {site.shard.people[row] for row in rows.tolist()}
        site.limits.check_faces(photos=len(rows), people=len(people))
        site.ledger.note(photos, PlainRelease("weights"))
        rival = discriminator_at(site, config)
        outcome = train_epochs(model, site.shard, work, discriminator=rival)
        if rival is not None:
            rival.save(site.discriminator)
    update = {
        name: (value - weights[name]).numpy() for name, value in shared_weights(model).items()
    }
    with site.lost_before(request.round) as lost:
        travelling = compressed(update, lost, config.federation.codec)
    return travelling, RoundReport(outcome.examples, outcome.metrics)


def share_of_run(config: RunConfig, number: int) -> tuple[float, float]:
    """The slice of the run that round ``number`` is."""
    rounds = config.federation.rounds
    return (number - 1) / rounds, number / rounds


def evaluate_round(
    request: Request, weights: Mapping[str, Tensor], site: Site, config: RunConfig
) -> dict[str, int | float]:
    """Sums of the global model's scores over the faces that the site does not train on.

    As they travel; under differential privacy with what these faces have spent.

    Raises:
        Refused: there are no such faces, or scores are not due in this round.
        LimitsExceeded, DeltaTooLarge, BudgetExhausted: before a photo is read.
    """
    if not config.federation.scores_are_due(request.round):
        raise Refused(Refusal.SCORES_NOT_DUE, f"scores are not due in round {request.round}")
    rows = site.shard.rows("val")
    if len(rows) == 0:
        raise Refused(Refusal.NOTHING_TO_SCORE, Refusal.NOTHING_TO_SCORE.sentence)
    model = received_model(weights, config)
    if config.privacy is not None:
        from facemorph_core.learning.training.private_scores import score_privately

        with one_reason_for_all(site.ledger):
            sums, spent = score_privately(
                model, site.shard, config, ledger=site.ledger, limits=site.limits
            )
        return ScoreSums(int(sums.pop("examples")), sums).as_record() | spent.as_record()
    scored = spread(rows, config.evaluation.max_faces)
    people = len({site.shard.people[row] for row in scored.tolist()})
    site.limits.check_scoring(config, site.ledger, people=people)
    site.ledger.note(photos_of(site.shard, "val"), PlainRelease("scores"))
    sums = evaluate_rows(model, site.shard, scored, config)
    return ScoreSums(int(sums.pop("examples")), sums).as_record()


_NO_PHOTO_NEEDED = LimitsExceeded, DeltaTooLarge, BudgetExhausted, ConfigError, WeightsUnavailable


@contextmanager
def one_reason_for_all(ledger: SiteLedger) -> Iterator[None]:
    """Whatever goes wrong with the photos under differential privacy is told as the same thing.

    Which error it was may depend on a single photo; the site's own log has it all. Errors that
    need no photo are told as long as nothing was charged: who hears them counts on that.
    """
    before = len(ledger.read().entries)
    try:
        yield
    except LedgerError:
        raise
    except _NO_PHOTO_NEEDED as error:
        if len(ledger.read().entries) > before:
            raise Refused(Refusal.FAILED, str(error)) from error
        raise
    except Exception as error:
        raise Refused(Refusal.FAILED, str(error)) from error


def received_model(weights: Mapping[str, Tensor], config: RunConfig) -> Autoencoder:
    """The model of this site's own config with the weights that came; others are refused."""
    model = build_model(config.model)
    load_shared_weights(model, weights)
    return model


def discriminator_at(site: Site, config: RunConfig) -> DiscriminatorState | None:
    """The discriminator as the last round left it at this site, or None for other models."""
    if not isinstance(config.model, VAEGANConfig):
        return None
    if site.discriminator.exists():
        return DiscriminatorState.load(site.discriminator, config)
    return DiscriminatorState.fresh(config, seed=stream_seed(config.seed, site.name, 0))


def stream_seed(seed: int, site: str, round_number: int) -> int:
    """A seed of its own for each site and round; a repeated round repeats its numbers."""
    text = f"{seed}/{site}/{round_number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
