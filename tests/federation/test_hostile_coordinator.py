"""A coordinator that means harm: crafted weights, its own settings, questions out of turn.

Its config, overrides and weights are what it likes; the client code is ours. What it may not get is
anything about a photo that is not in the site's ledger.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.app import APP
from client.app import app as client_app
from facemorph_core.config import load_run_config
from facemorph_core.errors import ConfigError, LimitsExceeded
from facemorph_core.learning.federated import Handshake, Refusal, shared_weights
from facemorph_core.learning.training.start import starting_model
from facemorph_core.shards.shard import Shard
from tests.federation.local_grid import (
    FEW,
    OPEN,
    as_received,
    site_settings,
    tiny_shard,
    write_config,
)

PLAIN = {"kind": "ae", "image_size": 32, "width": 8, "latent_dim": 8}
DP = {"noise_multiplier": 1.0, "max_epsilon": 1000.0}
STRICT = f"max_epsilon: 1000\n{FEW}"
ONCE = {"rounds": 1, "evaluate_every": 0}


class Coordinator:
    """One site, and whoever sends it messages."""

    def __init__(self, folder: Path, limits: str) -> None:
        self.folder = folder
        self.shard = tiny_shard(folder / "shard-1", seed=1)
        self.settings = site_settings(folder, 1, limits=limits)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1

    def ask(self, kind: str, *, weights=None, number: int = 1, overrides="", **sections) -> Message:
        """The site's answer to a message of this kind under a config of these sections."""
        values = {"model": PLAIN, "loss": {"l1": 1.0}, **sections}
        path = write_config(self.folder / "asked.yaml", **values)
        config = load_run_config(path, overrides.split())
        if weights is None:
            weights = shared_weights(starting_model(config))
        told = {
            "run-id": "0123456789abcdef",
            "server-round": number,
            **Handshake.here(config, APP).as_strings(),
        }
        arrays = ArrayRecord({name: Array(value.numpy()) for name, value in weights.items()})
        content = RecordDict({"arrays": arrays, "config": ConfigRecord(told)})
        message = as_received(Message(content, dst_node_id=1, message_type=kind))
        run_config = {"config": str(path), "overrides": overrides}
        context = Context(1, 1, dict(self.settings), RecordDict(), run_config)
        return client_app(message, context)

    @property
    def ledger(self) -> list[dict]:
        """What the site has written down."""
        file = self.folder / "shard-1.state" / "privacy.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [facts for facts in map(json.loads, lines) if facts["kind"] != "ledger"]


@pytest.fixture
def coordinator(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))

    def made(limits: str = STRICT) -> Coordinator:
        return Coordinator(tmp_path, limits)

    return made


@pytest.fixture
def unread(monkeypatch):
    """From here on no photo may be read."""

    def read(self, rows):
        raise AssertionError("a photo was read")

    monkeypatch.setattr(Shard, "images", read)


def refusal(reply: Message) -> Refusal | None:
    return Refusal(reply.error.code) if reply.has_error() else None


def crafted(change) -> dict[str, torch.Tensor]:
    from facemorph_core.config.schema import AEConfig
    from facemorph_core.learning.models import build_model

    weights = shared_weights(build_model(AEConfig.model_validate(PLAIN)))
    change(weights)
    return weights


# --- scores ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"privacy": DP, "federation": ONCE}, Refusal.SCORES_NOT_DUE),
        ({"privacy": DP}, Refusal.LIMITS_EXCEEDED),
        ({"privacy": {**DP, "scoring": {"people": 1}}}, Refusal.LIMITS_EXCEEDED),
        ({"privacy": None}, Refusal.LIMITS_EXCEEDED),
        ({"privacy": DP, "overrides": "privacy=null"}, Refusal.LIMITS_EXCEEDED),
    ],
    ids=["evaluate_every 0", "no scoring", "a site that never scores", "no privacy", "override"],
)
def test_crafted_weights_are_scored_on_no_photo(coordinator, sections, expected):
    """Scores were an oracle: weights that light one pixel read a photo, one answer at a time."""
    site = coordinator()
    for number in (1, 2):
        reply = site.ask("evaluate", number=number, **sections)
        assert refusal(reply) == expected
    assert site.ledger == []


def test_scores_that_a_site_allows_are_noised_charged_and_end(coordinator):
    limits = "max_epsilon: 3\nscoring: noised\nmin_scored_people: 2\n"
    site = coordinator(limits)
    asked = {"privacy": {**DP, "scoring": {"noise_multiplier": 4.0, "people": 1}}}
    answers = [site.ask("evaluate", number=1, **asked) for _ in range(20)]
    given = [dict(a.content["metrics"]) for a in answers if not a.has_error()]
    assert 1 < len(given) < 20
    assert len(site.ledger) == len(given)
    assert len({answer["psnr"] for answer in given}) == len(given)
    assert {refusal(a) for a in answers[len(given) :]} == {Refusal.BUDGET_EXHAUSTED}


def test_rounds_past_the_end_are_not_scored(coordinator):
    site = coordinator(OPEN)
    assert refusal(site.ask("evaluate", number=2)) is None
    assert refusal(site.ask("evaluate", number=3)) == Refusal.SCORES_NOT_DUE


# --- training --------------------------------------------------------------------------------


def one_bright_photo(folder: Path) -> None:
    """All photos of the shard grey but one."""
    pixels = np.load(folder / "faces.npy", mmap_mode="r+")
    pixels[:] = np.random.default_rng(0).integers(127, 129, pixels.shape)
    pixels[2] = 255
    pixels.flush()


def test_weights_that_break_on_one_photo_tell_nothing_of_it(coordinator):
    """Whether a round diverged was an oracle: refusal 1006, and nothing was charged."""

    def breaking(weights):
        weights["encoder.stem.weight"] *= 1e20

    kinds = []
    for photo in ("there", "not there"):
        site = coordinator()
        if photo == "there":
            one_bright_photo(site.shard.path)
        reply = site.ask("train", weights=crafted(breaking), privacy=DP, federation=ONCE)
        kinds.append(refusal(reply))
        assert len(site.ledger) == 1
        shutil.rmtree(site.folder)
        site.folder.mkdir()
    assert kinds == [None, None]


@pytest.mark.parametrize(
    "error",
    [
        *(OSError("disk"), FloatingPointError(), MemoryError(), ValueError("photo 7")),
        *(ConfigError("the config", ["no GPU"]), LimitsExceeded("late")),
    ],
)
def test_whatever_goes_wrong_with_the_photos_is_told_in_one_way(coordinator, monkeypatch, error):
    def broken(self, rows):
        raise error

    site = coordinator(STRICT + "scoring: noised\nmin_scored_people: 1\n")
    monkeypatch.setattr(Shard, "images", broken)
    asked = {"privacy": {**DP, "scoring": {"people": 1}}}
    assert refusal(site.ask("train", **asked)) == Refusal.FAILED
    assert refusal(site.ask("evaluate", **asked)) == Refusal.FAILED
    assert len(site.ledger) == 2


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    "overrides",
    [
        "privacy=null",
        "privacy.noise_multiplier=1e-6",
        "privacy.noise_multiplier=1e-6 privacy.max_epsilon=1e300",
        "privacy.noise_multiplier=0.49 privacy.delta=0.4",
    ],
)
def test_a_coordinators_own_settings_do_not_get_past_the_sites_limits(coordinator, overrides):
    site = coordinator()
    reply = site.ask("train", overrides=overrides, privacy=DP)
    assert refusal(reply) == Refusal.LIMITS_EXCEEDED
    assert site.ledger == []


@pytest.mark.usefixtures("unread")
def test_epsilon_counts_at_the_sites_delta_and_against_the_sites_limit(coordinator):
    site = coordinator("max_epsilon: 2\n" + FEW)
    asked = {**DP, "max_epsilon": 1e300, "delta": 0.4}
    assert refusal(site.ask("train", privacy=asked)) == Refusal.BUDGET_EXHAUSTED


def test_a_budget_that_was_refused_does_not_open_at_a_larger_delta(coordinator):
    site = coordinator("max_epsilon: 9\nmax_delta: 0.01\n" + FEW)
    asked = {**DP, "max_epsilon": 9.0, "delta": 1e-5}
    while refusal(reply := site.ask("train", privacy=asked, federation=ONCE)) is None:
        assert reply.content["metrics"]["delta"] == 1e-5
    before = site.ledger
    assert len(before) > 1
    for other in ({"delta": 1e-3}, {"delta": 0.4}, {"max_epsilon": 1e300, "delta": 1e-3}):
        reply = site.ask("train", privacy={**asked, **other}, federation=ONCE)
        assert refusal(reply) == Refusal.BUDGET_EXHAUSTED
    assert site.ledger == before


@pytest.mark.usefixtures("unread")
def test_a_delta_that_promises_nothing_is_refused_by_the_laxest_site(coordinator):
    site = coordinator("max_epsilon: 1000\nmax_delta: 0.5\n" + FEW)
    reply = site.ask("train", privacy={**DP, "delta": 0.4})
    assert refusal(reply) == Refusal.DELTA_TOO_LARGE
    assert site.ledger == []


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("privacy", [None, DP], ids=["plain", "private"])
def test_a_site_with_a_few_photos_neither_trains_nor_scores_by_default(coordinator, privacy):
    """The update of a site with one photo is that photo."""
    site = coordinator("privacy: optional\nscoring: plain\nmax_epsilon: 1000\n")
    replies = [site.ask(kind, privacy=privacy) for kind in ("train", "evaluate")]
    assert {refusal(reply) for reply in replies} == {Refusal.LIMITS_EXCEEDED}
    assert not any(digit in reply.error.reason for reply in replies for digit in "0123456789")
    assert site.ledger == []


def test_a_round_without_noise_is_written_down_and_leaves_no_epsilon(coordinator):
    site = coordinator("privacy: optional\n" + STRICT)
    assert refusal(site.ask("train")) is None
    assert [line["kind"] for line in site.ledger] == ["plain_release"]
    assert refusal(site.ask("train", privacy=DP)) == Refusal.BUDGET_EXHAUSTED


@pytest.mark.usefixtures("unread")
def test_plain_scores_are_of_as_many_people_as_the_site_says(coordinator):
    """`evaluation.max_faces` is the coordinator's: one face's score would be a photo's own."""
    site = coordinator("privacy: optional\nscoring: plain\nmin_scored_people: 2\n")
    reply = site.ask("evaluate", evaluation={"faces": "none", "max_faces": 1})
    assert refusal(reply) == Refusal.LIMITS_EXCEEDED


@pytest.mark.usefixtures("unread")
def test_limits_that_are_named_and_missing_are_not_the_defaults(coordinator, tmp_path):
    site = coordinator()
    site.settings["limits"] = str(tmp_path / "sight.yaml")
    assert refusal(site.ask("train", privacy=DP)) == Refusal.CONFIG_DIFFERS


def test_asking_again_is_paid_again(coordinator):
    site = coordinator()
    spent = [
        site.ask("train", privacy=DP, federation=ONCE).content["metrics"]["epsilon"]
        for _ in range(3)
    ]
    assert spent[0] < spent[1] < spent[2]


@pytest.mark.parametrize("file", ["shard-1.state", "shard-1.state/privacy.jsonl", "heads"])
def test_a_ledger_that_is_gone_stops_the_site(coordinator, file):
    site = coordinator()
    assert refusal(site.ask("train", privacy=DP)) is None
    gone = site.folder / file
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    site.settings = site_settings(site.folder, 1, limits=STRICT)
    assert refusal(site.ask("train", privacy=DP)) == Refusal.LEDGER_UNUSABLE


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("limits", ["privacy: no\n", "max_epsilon: -1\n", "typo: 1\n", "- 1\n"])
def test_limits_that_cannot_be_read_are_no_limits_to_guess(coordinator, limits):
    site = coordinator(limits)
    assert refusal(site.ask("train", privacy=DP)) == Refusal.CONFIG_DIFFERS
    assert site.ledger == []
