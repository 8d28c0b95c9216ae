"""The unit of privacy: every sentence that names it takes its words from one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from facemorph_core.config.schema import RunConfig
from facemorph_core.errors import BudgetExhausted, DeltaTooLarge
from facemorph_core.learning.privacy import (
    GaussianSteps,
    Heads,
    PlainRelease,
    SiteLedger,
    SiteLimits,
    Spent,
    Told,
)
from facemorph_core.learning.privacy import ledger as ledgers
from facemorph_core.learning.privacy import limits as limits_
from facemorph_core.learning.privacy.unit import UnitWords
from facemorph_core.learning.release import from_run
from facemorph_core.learning.report import run_report
from facemorph_core.learning.report.run_report import privacy_words

ANOTHER = UnitWords("visit", "visits", beyond="all visits of one person together")
TOLD = Told({1e-5: 2.0}, asked=True)


def private_config() -> RunConfig:
    privacy = {"noise_multiplier": 1.0, "max_epsilon": 4.0}
    return RunConfig.model_validate({"name": "a", "privacy": privacy})


@pytest.fixture(params=["photo", "visit"])
def one(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The unit's word, as it is and with others in its place."""
    if request.param == "visit":
        for module in (ledgers, limits_, from_run, run_report):
            monkeypatch.setattr(module, "words_for", lambda unit: ANOTHER)
    return request.param


def test_the_report_of_a_run_names_the_unit(one):
    words = privacy_words(private_config(), TOLD)
    assert f"released of the {one}s, merged or not" in words
    assert f"The unit is one {one}, neighbours differ by adding or removing one." in words
    assert f"Not covered: all {one}s of one person together, and the counts of photos." in words


def test_the_statement_of_a_bundle_names_the_unit(one):
    config = private_config()
    assert config.privacy
    statement = from_run._privacy(config.privacy, TOLD)
    assert statement["unit"] == f"one {one} at one site"
    assert f"{one}s drawn by Poisson sampling, each {one}'s gradient" in statement["mechanism"]


def test_refusals_name_the_unit(one):
    with pytest.raises(DeltaTooLarge, match=f"for 8 {one}s is no promise"):
        SiteLimits(max_delta=0.5).delta(0.4, "photo", count=8)
    with pytest.raises(BudgetExhausted, match=f"something about these {one}s left") as caught:
        ledgers.charge((PlainRelease("scores"),), GaussianSteps(1.0, 0.1, 1), delta=1e-5, limit=1.0)
    assert f"other {one}s have a budget" in caught.value.hint


def test_a_release_is_of_a_known_unit():
    with pytest.raises(Exception, match=r"unit|possible release"):
        GaussianSteps(1.0, 0.1, 1, unit="person")


def test_what_is_spent_is_for_the_unit_of_its_release(tmp_path: Path):
    ledger = SiteLedger(tmp_path / "privacy.jsonl", Heads(tmp_path / "heads"))
    event = GaussianSteps(1.0, 0.1, 1, unit="photo")
    spent = ledger.charge(frozenset("a"), event, delta=1e-5, limit=9.0)
    assert spent == Spent(spent.epsilon, 1e-5, event.unit)
