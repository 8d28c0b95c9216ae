"""What a run claims of its sites' epsilon: never less than what they spent, or "at least"."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.errors import FederationError
from facemorph_core.federated import ScoreSums
from facemorph_core.privacy import Spent, Told, read_told
from facemorph_core.privacy.spent import rounded_up
from facemorph_core.privacy.told import SPENT, note

NODES = (1, 2, 3)


def says(run: Path, number: int, node: int, event, of="training") -> None:
    note(run, number, of, node=node, site=f"clinic-{node}", event=event)


def asked_and(run: Path, number: int, node: int, event, of="training") -> None:
    says(run, number, node, "asked", of)
    says(run, number, node, event, of)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path


# --- the law ---------------------------------------------------------------------------------

FATES = st.sampled_from(["told", "lost", "charged and lost", "refused", "not asked"])


@settings(max_examples=60, deadline=None)
@given(rounds=st.lists(st.tuples(*[FATES] * len(NODES)), max_size=6))
def test_the_number_is_never_below_what_a_site_has_spent_unless_it_says_so(
    rounds, tmp_path_factory
):
    """Every site's ledger beside the file, whatever becomes of each question and answer."""
    run, ledgers = tmp_path_factory.mktemp("run"), dict.fromkeys(NODES, 0.0)
    for number, fates in enumerate(rounds, 1):
        for node, fate in zip(NODES, fates, strict=True):
            if fate == "not asked":
                continue
            says(run, number, node, "asked")
            ledgers[node] += fate in ("told", "charged and lost")
            if fate == "told":
                says(run, number, node, Spent(ledgers[node], 1e-5))
            if fate == "refused":
                says(run, number, node, "refused")
    told = read_told(run)
    claimed = told.for_all.epsilon if told.for_all else 0.0
    for node, spent in ledgers.items():
        assert spent <= claimed or f"clinic-{node}" in told.silent
    last = [[f for f in of_node if f != "not asked"] for of_node in zip(*rounds, strict=True)]
    if all(fates and fates[-1] == "told" for fates in last):
        assert not told.silent  # and "at least" only where it must be
    assert told.asked == any(fate != "not asked" for fates in rounds for fate in fates)


@given(st.floats(0, 1e12))
def test_what_is_shown_is_never_less(epsilon):
    shown = Decimal(rounded_up(epsilon))
    assert Decimal(repr(epsilon)) <= shown
    assert shown - Decimal("0.01") <= Decimal(repr(epsilon))


# --- words -----------------------------------------------------------------------------------


def test_nothing_was_released_only_where_nobody_was_asked(run):
    assert read_told(run).in_words() == "0 (no site was asked)"
    says(run, 1, 1, "asked")
    assert read_told(run).in_words() == "not known (no site told it)"
    says(run, 1, 1, "refused")
    assert read_told(run).in_words() == "not known (no site told it)"


def test_a_site_that_never_told_is_named_beside_those_that_did(run):
    asked_and(run, 1, 1, Spent(2.0, 1e-5))
    asked_and(run, 1, 2, "refused")
    says(run, 1, 3, "asked")
    words = read_told(run).in_words()
    assert words == "at least 2.00 at delta 1e-05 (not told to the end by clinic-2, clinic-3)"


def test_a_server_that_starts_again_still_knows_what_a_node_called_itself(run):
    asked_and(run, 1, 1, Spent(2.0, 1e-5))
    note(run, 2, "training", node=1, site="node 1", event="asked")
    assert read_told(run).silent == ("clinic-1",)


def test_many_names_do_not_fill_the_page():
    told = Told({1e-5: 1.0}, tuple(f"clinic-{n}" for n in range(100)), asked=True)
    assert told.in_words().endswith("clinic-7 ...)")


def test_every_epsilon_stands_beside_its_own_delta(run):
    for node, spent in ((1, Spent(8.0, 1e-6)), (2, Spent(3.0, 1e-5)), (3, Spent(2.0, 1e-5))):
        asked_and(run, 1, node, spent)
    told = read_told(run)
    assert told.in_words() == "8.00 at delta 1e-06 and 3.00 at delta 1e-05"
    assert told.for_all == Spent(8.0, 1e-5)


# --- what closes a question -------------------------------------------------------------------


def test_the_next_epsilon_that_a_site_tells_holds_what_it_did_not_tell(run):
    says(run, 1, 1, "asked")
    asked_and(run, 2, 1, Spent(2.0, 1e-5))
    assert read_told(run) == Told({1e-5: 2.0}, (), asked=True)


def test_a_refusal_after_an_answer_that_was_lost_does_not_close_it(run):
    asked_and(run, 1, 1, Spent(2.0, 1e-5))
    says(run, 2, 1, "asked")
    asked_and(run, 3, 1, "refused")
    assert read_told(run).silent == ("clinic-1",)


def test_photos_kept_aside_have_a_number_of_their_own(run):
    asked_and(run, 1, 1, Spent(2.0, 1e-5))
    says(run, 1, 1, "asked", "scores")
    asked_and(run, 2, 1, Spent(2.5, 1e-5))
    assert read_told(run).silent == ("clinic-1",)
    asked_and(run, 2, 1, Spent(3.5, 1e-5), "scores")
    assert read_told(run) == Told({1e-5: 3.5}, (), asked=True)


def test_a_site_that_does_not_score_has_nothing_to_tell_of_it(run):
    asked_and(run, 1, 1, Spent(2.0, 1e-5))
    asked_and(run, 1, 1, "refused", "scores")
    assert not read_told(run).silent


def test_a_torn_answer_is_none(run):
    asked_and(run, 1, 1, Spent(2.0, 1e-5))
    file = run / SPENT
    file.write_bytes(file.read_bytes()[:-10])
    assert read_told(run) == Told({}, ("clinic-1",), asked=True)


def test_a_model_of_an_earlier_round_owes_nothing_to_later_ones(run):
    for number in (1, 2, 3):
        asked_and(run, number, 1, Spent(float(number), 1e-5))
    assert read_told(run, up_to=2).largest == {1e-5: 2.0}


# --- runs before the file ---------------------------------------------------------------------


def test_figures_of_older_runs_and_of_rounds_rolled_back_count(run):
    def row(number, epsilon, **more):
        figures = {"epsilon": epsilon, "delta": 1e-5}
        return json.dumps({"round": number, "asked": 2, "training": figures, **more}) + "\n"

    (run / "metrics.jsonl").write_text(row(1, 1.0) + row(2, 2.0))
    (run / "metrics.rolled-back.jsonl").write_text(row(2, 2.5))
    assert read_told(run) == Told({1e-5: 2.5}, (), asked=True)
    aside = [{"site": "clinic-9", "reason": "no answer"}]
    (run / "metrics.jsonl").write_text(row(1, 1.0) + row(2, 2.0, set_aside=aside))
    assert read_told(run).in_words().startswith("at least 2.50 at delta 1e-05 (not told")
    asked_and(run, 3, 1, Spent(4.0, 1e-6))
    assert read_told(run).largest == {1e-5: 2.5, 1e-6: 4.0}


# --- on its way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"epsilon": 1.0},
        {"delta": 1e-5},
        *({"epsilon": e, "delta": 1e-5} for e in (-1.0, float("nan"), float("inf"), 10**400, "3")),
        *({"epsilon": 1.0, "delta": d} for d in (0.0, 1.0, -1e-5, float("nan"), True, [1e-5])),
    ],
)
def test_what_is_no_epsilon_with_its_delta_is_refused(record):
    with pytest.raises(FederationError, match="does not say"):
        Spent.parse(record)


def test_sums_of_scores_bring_their_epsilon_and_do_not_add_it_up():
    sums = ScoreSums(4, {"psnr": 80.0}, Spent(1.5, 1e-5))
    again = ScoreSums.parse(sums.as_record())
    assert again == sums
    assert again.counted_as(2) == ScoreSums(2, {"psnr": 40.0}, Spent(1.5, 1e-5))
    assert again.means() == {"psnr": 20.0}
