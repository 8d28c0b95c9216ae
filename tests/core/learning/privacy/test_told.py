"""What a run claims of its sites' epsilon: never less than what they spent, or "at least"."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.errors import FederationError
from facemorph_core.learning.privacy import Spent, Told, read_told
from facemorph_core.learning.privacy.spent import rounded_up
from facemorph_core.learning.privacy.told import SPENT, note, note_anew

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


# --- a simulation that goes on ------------------------------------------------------------------


def test_what_nodes_of_a_killed_simulation_left_open_all_its_sites_close(run):
    """Its nodes have other numbers each time, and nothing says which of them was which site."""
    note_anew(run, sites=2)
    for node in (1, 2):
        says(run, 1, node, "asked")
        says(run, 1, node, "asked", "scores")
    note_anew(run, sites=2)
    asked_and(run, 1, 11, Spent(2.0, 1e-5))
    assert read_told(run).silent == ("clinic-1", "clinic-2")
    asked_and(run, 2, 11, Spent(3.0, 1e-5))
    assert read_told(run).silent == ("clinic-1", "clinic-2")
    for of in ("training", "scores"):
        asked_and(run, 2, 12, Spent(3.0, 1e-5), of)
    asked_and(run, 2, 11, Spent(3.0, 1e-5), "scores")
    assert read_told(run) == Told({1e-5: 3.0}, (), asked=True)


def test_they_close_nothing_that_was_asked_after_it_went_on(run):
    for nodes in ((1, 2), (11, 12)):
        note_anew(run, sites=2)
        for node in nodes:
            asked_and(run, 1, node, Spent(2.0, 1e-5))
            says(run, 2, node, "asked")
    assert read_told(run).silent == ("clinic-11", "clinic-12")


def test_sites_of_a_federation_close_only_their_own(run):
    says(run, 1, 1, "asked")
    asked_and(run, 1, 2, Spent(2.0, 1e-5))
    assert read_told(run).silent == ("clinic-1",)


# --- lines that say nothing --------------------------------------------------------------------

LINE = {"round": 1, "of": "training", "node": "1", "site": "clinic-1", "event": "asked"}
NEEDED = ("of", "node", "site", "event")
TOLD_LINE = LINE | {"event": "told", "epsilon": 3.0, "delta": 1e-5}


@pytest.mark.parametrize(
    "line",
    [
        {"round": 3},
        {},
        *({name: value for name, value in LINE.items() if name != gone} for gone in NEEDED),
        *(LINE | {name: wrong} for name in NEEDED for wrong in (7, [1])),
        *(TOLD_LINE | {"epsilon": e} for e in ("9", None, [9], float("nan"), float("inf"), -1)),
        *(TOLD_LINE | {"delta": d} for d in ("9", None, 0, 1, True)),
        *(TOLD_LINE | {"unit": u} for u in ("person", None, ["photo"])),
        {"event": "anew", "sites": "8"},
        {"event": "begun", "told": [{"epsilon": "9", "delta": 1e-5}]},
        {"event": "begun", "told": [{"epsilon": 9.0, "delta": 1e-5, "unit": "person"}]},
    ],
)
def test_a_line_that_is_none_is_left_out_and_the_number_says_at_least(run, line):
    asked_and(run, 1, 1, Spent(2.0, 1e-5))
    with (run / SPENT).open("a") as file:
        file.write(json.dumps(line) + "\n")
    told = read_told(run)
    assert told == Told({1e-5: 2.0}, (), asked=True, damaged=1)
    assert told.in_words().startswith("at least 2.00 at delta 1e-05 (1 of the lines")
    asked_and(run, 2, 1, Spent(2.5, 1e-5))
    assert read_told(run).in_words().startswith("at least 2.50")


def test_a_line_of_no_end_is_left_out(run):
    asked_and(run, 1, 1, Spent(2.0, 1e-5))
    with (run / SPENT).open("a") as file:
        file.write("[" * 100_000 + "\n")
    assert read_told(run) == Told({1e-5: 2.0}, (), asked=True)


@pytest.mark.parametrize("training", [{"epsilon": "9", "delta": 1e-5}, {"epsilon": 1.0}, 7])
def test_figures_that_are_none_are_left_out_too(run, training):
    row = {"round": 1, "asked": 2, "training": training}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert read_told(run) == Told({}, (), asked=True, damaged=1)
    asked_and(run, 2, 1, Spent(2.0, 1e-5))
    assert read_told(run) == Told({1e-5: 2.0}, (), asked=True, damaged=1)


# --- what is shown -----------------------------------------------------------------------------


@given(delta=st.floats(1e-300, 0.5))
def test_a_delta_is_shown_as_it_is(delta):
    assert float(Told({delta: 1.0}).in_words().split(" at delta ")[1]) == delta


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


def old_run(run: Path) -> None:
    """Rounds 1 to 5 without a file; one site told 8.0 in the last, and one was set aside."""
    rows = [
        {"round": n, "asked": 3, "training": {"epsilon": e, "delta": 1e-5}}
        for n, e in ((1, 2.0), (2, 3.5), (3, 5.0), (4, 6.5), (5, 8.0))
    ]
    rows[3]["set_aside"] = [{"site": "clinic-3", "reason": "no answer"}]
    lines = [json.dumps(row) + "\n" for row in rows]
    (run / "metrics.jsonl").write_text("".join(lines[:3]))
    (run / "metrics.rolled-back.jsonl").write_text("".join(lines[3:]))


def test_what_was_told_before_the_file_stays_told_when_its_rounds_are_done_again(run):
    old_run(run)
    before = read_told(run)
    assert before == Told({1e-5: 8.0}, ("clinic-3",), asked=True)
    for number in (4, 5):
        asked_and(run, number, 1, Spent(5.5, 1e-5))
    assert read_told(run) == before


def test_rows_that_the_file_covers_bring_nobody_into_it(run):
    """Of a later round the file says more than its row: who was set aside may have told."""
    old_run(run)
    asked_and(run, 4, 2, Spent(5.5, 1e-6))
    row = {"round": 4, "asked": 1, "training": {"epsilon": 8.0, "delta": 1e-6}}
    row["set_aside"] = [{"site": "clinic-2", "reason": "too large"}]
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    assert read_told(run) == Told({1e-5: 8.0, 1e-6: 5.5}, ("clinic-3",), asked=True)


def test_a_file_whose_first_line_is_lost_is_no_reason_to_claim_less(run):
    old_run(run)
    asked_and(run, 4, 1, Spent(5.5, 1e-5))
    _, *lines = (run / SPENT).read_text().splitlines(keepends=True)
    for first in ("", "{torn\n", '{"event": "begun"}\n'):
        (run / SPENT).write_text(first + "".join(lines))
        assert read_told(run).largest == {1e-5: 8.0}
        assert read_told(run).silent == ("clinic-3",)


def test_lines_about_photos_do_not_say_so(run):
    asked_and(run, 1, 1, Spent(2.0, 1e-5))
    last = (run / SPENT).read_text().splitlines()[-1]
    assert last.endswith('"event": "told", "epsilon": 2.0, "delta": 1e-05}')
    assert read_told(run).for_all == Spent(2.0, 1e-5, unit="photo")


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


def test_an_epsilon_for_another_unit_is_refused():
    record = {"epsilon": 1.0, "delta": 1e-5}
    assert Spent.parse(record | {"unit": "photo"}) == Spent.parse(record)
    with pytest.raises(FederationError, match=r"does not know \('person'\)"):
        Spent.parse(record | {"unit": "person"})
