"""A run directory -> a bundle: the newest checkpoint, or the one of a given round or epoch.

A federated run keeps ``checkpoints/round-NNNN.safetensors``, a central one
``checkpoints/epoch-NNNN.safetensors``; ``config.yaml`` says which network they fit and
``metrics.jsonl`` (one JSON object a line) what was measured in which round.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file

from facemorph_core.bundle.find import RUN_BUNDLE, SUFFIX
from facemorph_core.config.load import load_run_config
from facemorph_core.config.schema import PrivacyConfig, RunConfig
from facemorph_core.disk.records import numbered, read_metrics
from facemorph_core.errors import ModelError
from facemorph_core.learning.models import Autoencoder, build_model
from facemorph_core.learning.privacy import Told, read_told
from facemorph_core.learning.privacy.spent import rounded_up
from facemorph_core.learning.privacy.unit import words_for
from facemorph_core.learning.release.write import write_bundle

_NOT_FIGURES = {"round", "epoch", "present", "asked", "examples", "images", "seconds", "steps"}
_NOT_FIGURES |= {"bytes_down", "bytes_up", "epsilon", "delta"}
"""What a row of the run's figures says of the work rather than of the model."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights after ``number`` rounds or epochs (``unit``)."""

    path: Path
    unit: str
    number: int


@dataclass(frozen=True)
class Facts:
    """What a run recorded about one of its checkpoints."""

    training: dict[str, Any]
    metrics: dict[str, Any]


def bundle_run(
    run: Path,
    *,
    round: int | None = None,
    out: Path | None = None,
    scores: Path | None = None,
    notes: Path | None = None,
) -> Path:
    """Write a bundle of ``run`` and return its path.

    Without ``round`` it is the newest checkpoint. ``out`` defaults to ``RUN/model.facemorph``,
    or ``RUN/model-round-NNNN.facemorph`` for a given round; an older file there is replaced.
    ``scores`` (of `facemorph-core evaluate --report`) take the place of the run's own figures;
    ``notes`` are Markdown for the card. Epsilon is that of all rounds, also for an
    earlier one: which is taken follows from what the later ones brought.

    Raises:
        ModelError: there is no such checkpoint, it does not fit the config, or the scores are
            those of another model.
    """
    measured = None if scores is None else read_scores(scores)
    said = None if notes is None else _read(notes)
    checkpoint = find_checkpoint(run, round=round)
    config = load_run_config(run / "config.yaml")
    facts = read_facts(run, checkpoint)
    return write_bundle(
        load_model(config, checkpoint.path),
        out or run / _default_name(checkpoint, chosen=round is not None),
        config=config.model_dump(mode="json"),
        training=facts.training,
        metrics=facts.metrics if measured is None else measured,
        scored=None if measured is None else measured["model"]["networks"],
        card_notes=said,
        privacy=None if config.privacy is None else _privacy(config.privacy, read_told(run)),
    )


def read_scores(path: Path) -> dict[str, Any]:
    """What `facemorph-core evaluate --report` wrote, without the folder of its shard.

    Raises:
        ModelError: the file is not that.
    """
    try:
        scores: dict[str, Any] = json.loads(_read(path))
        if not isinstance(scores["model"]["networks"], str):
            raise ValueError("model.networks is no digest")
        del scores["shard"]["path"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} holds no scores: {error}",
            hint="make it with facemorph-core evaluate --report FOLDER: it is scores.json there",
        ) from None
    return scores


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None


def find_checkpoint(run: Path, *, round: int | None = None) -> Checkpoint:
    """The checkpoint of ``round``, or the newest."""
    found = sorted(_checkpoints(run), key=lambda checkpoint: checkpoint.number)
    if not found:
        raise ModelError(
            f"{run} holds no checkpoint", hint="name the directory of a run, such as runs/demo"
        )
    if round is None:
        return found[-1]
    for checkpoint in found:
        if checkpoint.number == round:
            return checkpoint
    numbers = ", ".join(str(checkpoint.number) for checkpoint in found)
    raise ModelError(f"{run} has no {found[0].unit} {round}; there are: {numbers}")


def load_model(config: RunConfig, path: Path) -> Autoencoder:
    """The model of ``config`` with the weights in ``path``, which must fit exactly."""
    model = build_model(config.model)
    try:
        weights = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"the checkpoint {path} cannot be read: {error}") from None
    own = model.state_dict()
    wrong = sorted(
        {*own} ^ {*weights}
        | {name for name in {*own} & {*weights} if own[name].shape != weights[name].shape}
    )
    if wrong:
        raise ModelError(
            f"{path} does not fit the model of its config: {len(wrong)} weights differ, "
            f"the first is {wrong[0]}"
        )
    model.load_state_dict(weights)
    return model.eval()


def read_facts(run: Path, checkpoint: Checkpoint) -> Facts:
    """What the run's figures say about ``checkpoint``; little where nothing was recorded."""
    unit, number = checkpoint.unit, checkpoint.number
    rows = [row for row in read_metrics(run) if 0 < row.get(unit, 0) <= number]
    last: dict[str, Any] = {}
    for row in rows:
        last |= row if row[unit] == number else {}
    merged = [row for row in rows if row.get("merged", True)]
    sites = {site for row in merged for site in row.get("used", ())}
    counted = {
        "sites": len(sites),
        "examples": last.get("examples"),
        "seconds": round(sum(row.get("seconds", 0) for row in rows), 1),
    }
    return Facts(
        training={f"{unit}s": number, **{key: value for key, value in counted.items() if value}},
        metrics=_figures(last),
    )


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a row that judge the model, nested as they are."""
    figures: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            value = _figures(value)
        if key not in _NOT_FIGURES and (value if isinstance(value, dict) else _is_number(value)):
            figures[key] = value
    return figures


def _checkpoints(run: Path) -> Iterator[Checkpoint]:
    for unit in ("round", "epoch"):
        for number, path in numbered(run / "checkpoints", unit, ".safetensors").items():
            yield Checkpoint(path, unit, number)


def _default_name(checkpoint: Checkpoint, *, chosen: bool) -> str:
    if not chosen:
        return RUN_BUNDLE
    return f"model-{checkpoint.unit}-{checkpoint.number:04d}{SUFFIX}"


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _privacy(privacy: PrivacyConfig, told: Told) -> dict[str, Any]:
    """What may be said to everybody: how many sites did not tell, not which."""
    unit = words_for(told.unit)
    statement: dict[str, Any] = {
        "mechanism": f"DP-SGD at every site: {unit.many} drawn by Poisson sampling, each "
        f"{unit.one}'s gradient clipped, Gaussian noise added",
        "unit": f"one {unit.one} at one site",
        "relation": "add or remove",
        "released": "encoder and decoder weights after every round"
        + (", sums of scores with noise" if privacy.scoring else "")
        + "; counts of photos as they are",
        **privacy.model_dump(mode="json", exclude={"scoring"}),
    }
    spent = told.for_all
    if spent is None:
        return statement | {"epsilon": "not known"}
    at_least = f"at least {rounded_up(spent.epsilon)}"
    statement["epsilon"] = spent.epsilon if told.is_all else at_least
    statement["delta"] = spent.delta
    if len(told.largest) > 1:
        statement["epsilon_at"] = {repr(d): e for d, e in sorted(told.largest.items())}
    if told.silent:
        statement["sites_that_did_not_tell"] = len(told.silent)
    statement["composed_over"] = (
        "all that sites had released when they told it, merged or not; the largest of all sites"
    )
    return statement
