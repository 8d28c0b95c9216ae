"""The ledger on a site's disk: what was released stays released, whatever happens to the file."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemorph_core.errors import BudgetExhausted, LedgerError
from facemorph_core.learning.privacy import (
    GaussianSteps,
    Heads,
    PlainRelease,
    SiteLedger,
    SiteLimits,
    epsilon,
    photos_of,
)
from facemorph_core.learning.privacy import ledger as lines_of
from facemorph_core.learning.privacy.photos import fingerprint, keep_set, kept_set
from tests.ledgers import spent_of

DELTA = 1e-5
EVENT = GaussianSteps(1.0, 0.1, 10)
PHOTOS = frozenset({"a", "b", "c"})


@pytest.fixture
def ledger(tmp_path: Path) -> SiteLedger:
    return SiteLedger(tmp_path / "state" / "privacy.jsonl", Heads(tmp_path / "heads"))


def charged(ledger: SiteLedger, event=EVENT, photos=PHOTOS, limit: float = 50.0) -> float:
    return ledger.charge(photos, event, delta=DELTA, limit=limit).epsilon


def events(ledger: SiteLedger) -> list[object]:
    return [entry.event for entry in ledger.read().entries]


# --- what is written -------------------------------------------------------------------------


def test_the_ledger_outlives_the_process_that_wrote_it(ledger):
    assert events(ledger) == []
    made = [EVENT, GaussianSteps(1.3, 1 / 3, 7)]
    spent = [charged(ledger, event) for event in made]
    ledger.note(PHOTOS, PlainRelease("scores"))
    again = SiteLedger(ledger.path, ledger.heads)
    assert events(again) == [*made, PlainRelease("scores")]
    assert spent == [epsilon(made[:1], DELTA), epsilon(made, DELTA)]


def test_a_line_holds_facts_and_no_conclusions(ledger):
    charged(ledger)
    beginning, facts = map(json.loads, ledger.path.read_text().splitlines())
    assert {*beginning} == {"kind", "format", "ledger", "before", "at", "chain"}
    told = {"kind", "noise_multiplier", "sample_rate", "steps"}
    assert {*facts} == told | {"delta", "photos", "at", "chain"}


def test_the_line_of_a_photos_release_is_what_it_always_was(ledger):
    """That the unit is a photo goes without saying, in old lines and in new ones."""
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    before = lines_of.Ledger(id="a" * 32, chains=("c" * 64,))
    line, chain = lines_of.next_line(before, EVENT, "f" * 64, at, delta=1e-5)
    facts = (
        '"kind": "gaussian_steps", "noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 10, '
        f'"delta": 1e-05, "photos": "{"f" * 64}", "at": "2026-01-02T03:04:05+00:00"'
    )
    assert line.decode() == f'{{{facts}, "chain": "{chain}"}}\n'
    charged(ledger)
    assert [event.unit for event in events(ledger)] == ["photo"]


def append(ledger: SiteLedger, **changed: object) -> None:
    """One more release with other facts, chained as any."""
    line = lines_of.next_line(ledger.read(), EVENT, fingerprint(PHOTOS), datetime.now(UTC))
    facts = json.loads(line[0]) | changed
    del facts["chain"]
    with ledger.path.open("ab") as file:
        file.write(lines_of._chained(facts, ledger.read().chains[-1])[0])


def test_a_line_may_say_that_its_unit_is_a_photo(ledger):
    charged(ledger)
    append(ledger, unit="photo")
    assert events(ledger) == [EVENT, EVENT]


@pytest.mark.parametrize("unit", ["person", "", None, ["photo"], 1])
def test_a_unit_that_is_not_known_is_not_guessed_at(ledger, unit):
    charged(ledger)
    append(ledger, unit=unit)
    with pytest.raises(LedgerError, match="line 3 is about a unit that this version does not know"):
        charged(ledger)


def test_a_refused_release_leaves_no_line(ledger):
    charged(ledger)
    before = ledger.path.read_bytes()
    with pytest.raises(BudgetExhausted):
        charged(ledger, GaussianSteps(0.5, 1.0, 10_000))
    assert ledger.path.read_bytes() == before


def test_half_a_last_line_was_never_followed_by_a_release(ledger, caplog):
    charged(ledger)
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + whole[:25])
    assert events(ledger) == [EVENT]
    assert "half a line" in caplog.text
    charged(ledger)
    assert events(ledger) == [EVENT, EVENT]
    assert ledger.path.read_bytes().startswith(whole)


def _spends(ledger: SiteLedger, limit: float) -> bool:
    try:
        charged(ledger, limit=limit)
    except BudgetExhausted:
        return False
    return True


def test_rounds_at_the_same_time_cannot_all_spend_the_rest(ledger):
    limit = epsilon([EVENT] * 2, DELTA) + 1e-6
    with ThreadPoolExecutor(3) as pool:
        spent = list(pool.map(_spends, [ledger] * 3, [limit] * 3))
    assert sum(spent) == 2
    assert len(events(ledger)) == 2


def test_releases_of_a_day_are_counted(ledger):
    charged(ledger)
    ledger.note(PHOTOS, PlainRelease("weights"))
    assert ledger.releases_within(timedelta(days=1)) == 2
    assert ledger.releases_within(timedelta(seconds=-5)) == 0


# --- it belongs to the photos ----------------------------------------------------------------


def test_photos_pay_for_what_they_were_in_and_for_nothing_else(ledger):
    charged(ledger, photos=frozenset("ab"))
    ledger.note(frozenset("yz"), PlainRelease("weights"))
    assert spent_of(ledger, frozenset("bc"), DELTA) == epsilon([EVENT], DELTA)
    assert spent_of(ledger, frozenset("c"), DELTA) == 0
    assert spent_of(ledger, frozenset("z"), DELTA) == np.inf
    assert charged(ledger, photos=frozenset("abc")) == epsilon([EVENT] * 2, DELTA)


@settings(max_examples=20)
@given(sets=st.lists(st.frozensets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=5))
def test_no_photo_is_charged_less_than_what_it_was_in(sets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    ledger = SiteLedger(folder / "privacy.jsonl", Heads(folder / "heads"))
    for photos in sets:
        charged(ledger, photos=photos)
    for photo in "abcdef":
        slow = epsilon([EVENT] * sum(photo in photos for photos in sets), DELTA)
        assert spent_of(ledger, frozenset(photo), DELTA) == pytest.approx(slow)


def test_a_set_of_photos_that_is_gone_counts_for_all_photos(ledger):
    charged(ledger, photos=frozenset("ab"))
    shutil.rmtree(ledger.path.parent / "photos")
    assert spent_of(ledger, frozenset("c"), DELTA) == epsilon([EVENT], DELTA)


def test_another_set_of_photos_under_the_same_name_is_noticed(ledger):
    charged(ledger, photos=frozenset("ab"))
    (ledger.path.parent / "photos" / fingerprint("ab")).write_text("y\nz")
    with pytest.raises(LedgerError, match="not the set of photos"):
        spent_of(ledger, frozenset("a"), DELTA)


@given(st.frozensets(st.text("0123456789abcdef", min_size=1, max_size=4)))
def test_a_set_of_photos_comes_back(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("sets")
    assert kept_set(folder, keep_set(folder, photos)) in (photos, photos | {""})


def test_photos_are_told_apart_by_their_file_or_else_by_their_pixels():
    class Shard:
        def __init__(self):
            self.source_digests = ["file", "", ""]

        def rows(self, split):
            return np.arange(3)

        def images(self, rows):
            return np.full((1, 2, 2, 3), rows[0], np.uint8)

    assert len(photos_of(Shard(), "train")) == 3
    assert "file" in photos_of(Shard(), "train")
    assert photos_of(Shard(), "train") == photos_of(Shard(), "val")


# --- what a run may change ------------------------------------------------------------------


def test_a_refused_budget_does_not_open_again_at_another_delta(ledger):
    """At a larger delta epsilon is smaller: what was refused at 1e-5 went on at 1e-3."""
    limit = epsilon([EVENT] * 2, 1e-5) + 1e-6
    for _ in range(2):
        charged(ledger, limit=limit)
    assert epsilon([EVENT] * 3, 1e-3) < limit
    for delta in (1e-5, 1e-4, 1e-3, 0.4):
        with pytest.raises(BudgetExhausted) as caught:
            ledger.charge(PHOTOS, EVENT, delta=delta, limit=limit)
        assert caught.value.delta == 1e-5
    assert ledger.charge(frozenset("new"), EVENT, delta=1e-3, limit=limit).delta == 1e-3


SETS = st.frozensets(st.sampled_from("abc"), min_size=1)
RUNS = st.tuples(SETS, st.sampled_from([1e-7, 1e-5, 1e-3, 0.1]), st.floats(0.5, 6))
SITE = st.tuples(st.sampled_from([1e-6, 1e-4, 0.01]), st.floats(1, 8))


@settings(max_examples=25, deadline=None)
@given(runs=st.lists(RUNS, min_size=2, max_size=8), site=SITE)
def test_no_promise_to_a_photo_is_broken_by_a_later_delta(runs, site, tmp_path_factory):
    """A later run breaks an earlier (epsilon, delta) only by asking for a larger epsilon, and never
    the site's own."""
    folder = tmp_path_factory.mktemp("site")
    ledger = SiteLedger(folder / "privacy.jsonl", Heads(folder / "heads"))
    limits, kept = SiteLimits(max_delta=site[0], max_epsilon=site[1]), []
    for photos, asked, most in runs:
        delta, limit = limits.delta(asked, "photo", count=len(photos)), limits.epsilon(most)
        try:
            spent = ledger.charge(photos, EVENT, delta=delta, limit=limit)
        except BudgetExhausted:
            continue
        assert spent.delta <= delta
        kept.append((photos, asked, most))
        for photo in "abc":
            of_photo = [each for each in kept if photo in each[0]]
            one = frozenset(photo)
            assert spent_of(ledger, one, limits.max_delta) <= limits.max_epsilon
            for number, (_, promised, _) in enumerate(of_photo):
                later = max(most for _, _, most in of_photo[number:])
                assert spent_of(ledger, one, promised) <= later


def test_lines_without_a_delta_are_read_and_bind_no_run(ledger):
    charged(ledger)
    before = ledger.read()
    line = lines_of.next_line(before, EVENT, fingerprint("z"), datetime.now(UTC))
    keep_set(ledger.path.parent / "photos", frozenset("z"))
    ledger.path.write_bytes(before.with_line(*line).text)
    assert [entry.delta for entry in ledger.read().entries] == [DELTA, None]
    assert ledger.charge(frozenset("z"), EVENT, delta=1e-3, limit=50.0).delta == 1e-3


@pytest.mark.parametrize("delta", [0, 1, -1e-5, float("nan"), "much", None, []])
def test_a_delta_that_cannot_be_is_damage(ledger, delta):
    charged(ledger)
    append(ledger, delta=delta)
    with pytest.raises(LedgerError, match="not a record"):
        charged(ledger)


# --- what happens to files -------------------------------------------------------------------


def three(ledger: SiteLedger) -> list[bytes]:
    for steps in (1, 2, 3):
        charged(ledger, GaussianSteps(1.0, 0.1, steps))
    return ledger.path.read_bytes().splitlines(keepends=True)


ATTACKS = {
    "deleted": lambda path, lines: path.unlink(),
    "emptied": lambda path, lines: path.write_bytes(b""),
    "cut by one": lambda path, lines: path.write_bytes(b"".join(lines[:-1])),
    "cut to its beginning": lambda path, lines: path.write_bytes(lines[0]),
    "one taken out": lambda path, lines: path.write_bytes(b"".join(lines[:2] + lines[3:])),
    "two swapped": lambda p, lines: p.write_bytes(b"".join([*lines[:1], *lines[2:0:-1], lines[3]])),
    "beginning taken out": lambda path, lines: path.write_bytes(b"".join(lines[1:])),
    "a number changed": lambda path, lines: path.write_bytes(
        b"".join(lines).replace(b'"steps": 3', b'"steps": 1')
    ),
    "noise changed": lambda path, lines: path.write_bytes(
        b"".join(lines).replace(b'"noise_multiplier": 1.0', b'"noise_multiplier": 9.0')
    ),
    "photos changed": lambda path, lines: path.write_bytes(
        b"".join(lines).replace(fingerprint(PHOTOS).encode(), fingerprint("x").encode())
    ),
    "made as of format 1": lambda path, lines: path.write_bytes(
        b"".join(
            json.dumps(
                {k: v for k, v in json.loads(line).items() if k not in ("chain", "photos")}
            ).encode()
            + b"\n"
            for line in lines[1:2]
        )
    ),
    "begun anew": lambda path, lines: shutil.rmtree(path.parent),
    "garbage": lambda path, lines: path.write_bytes(b"garbage\n" + b"".join(lines)),
    "a list": lambda path, lines: path.write_bytes(b"".join(lines) + b"[]\n"),
    "an unknown kind": lambda path, lines: path.write_bytes(
        b"".join(lines) + b'{"kind": "laplace"}\n'
    ),
    "endless steps": lambda path, lines: path.write_bytes(
        b"".join(lines).replace(b'"steps": 3', b'"steps": 1e999')
    ),
    "nested": lambda path, lines: path.write_bytes(b"".join(lines) + b"[" * 10**5 + b"\n"),
    "binary": lambda path, lines: path.write_bytes(b"\xff\xfe" * 20 + b"\n" + b"".join(lines)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_whoever_meddles_with_the_file_stops_the_site(ledger, attack):
    ATTACKS[attack](ledger.path, three(ledger))
    with pytest.raises(LedgerError) as caught:
        charged(ledger)
    assert caught.value.hint
    with pytest.raises(LedgerError):
        ledger.note(PHOTOS, PlainRelease("weights"))
    with pytest.raises(LedgerError):
        spent_of(ledger, PHOTOS, DELTA)


def test_a_ledger_at_another_place_is_no_new_budget(ledger, tmp_path):
    three(ledger)
    elsewhere = SiteLedger(tmp_path / "other" / "privacy.jsonl", ledger.heads)
    with pytest.raises(LedgerError, match="have a ledger already") as caught:
        charged(elsewhere, photos=frozenset({"c", "d"}))
    assert str(ledger.path) in str(caught.value)
    assert charged(elsewhere, photos=frozenset("d")) > 0


def test_a_ledger_whose_head_is_gone_is_not_trusted(ledger):
    three(ledger)
    shutil.rmtree(ledger.heads.folder)
    with pytest.raises(LedgerError, match="the head of"):
        charged(ledger)


def test_a_site_that_moves_with_all_its_files_goes_on(ledger, tmp_path):
    three(ledger)
    shutil.copytree(ledger.path.parent, tmp_path / "moved")
    shutil.copytree(ledger.heads.folder, tmp_path / "moved-heads")
    moved = SiteLedger(tmp_path / "moved" / "privacy.jsonl", Heads(tmp_path / "moved-heads"))
    charged(moved)
    assert len(events(moved)) == 4


@pytest.mark.parametrize(
    "damage", [b"{", b"[]", b'{"format": 7}', b'{"format": 1, "x": 2}', b"\xff", b"[" * 10**5]
)
def test_a_damaged_head_is_a_sentence(ledger, damage):
    three(ledger)
    next(ledger.heads.folder.glob("*.json")).write_bytes(damage)
    with pytest.raises(LedgerError, match="is damaged"):
        charged(ledger)


@pytest.mark.parametrize("damage", [None, b"", b"\xff\xfe", b"other"])
def test_a_heads_photos_cannot_be_taken_away_from_it(ledger, damage):
    """Else a deleted ledger would be a new budget."""
    three(ledger)
    ledger.path.unlink()
    kept = next((ledger.heads.folder / "photos").iterdir())
    kept.unlink() if damage is None else kept.write_bytes(damage)
    with pytest.raises(LedgerError):
        charged(ledger)


def test_a_ledger_of_the_first_format_counts_for_all_photos_and_is_chained_from_now_on(ledger):
    first = {"kind": "gaussian_steps", "noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 10}
    old = json.dumps({**first, "at": datetime.now().isoformat()}).encode() + b"\n"
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(old)
    assert charged(ledger) == epsilon([EVENT] * 2, DELTA)
    assert events(ledger) == [EVENT, EVENT]
    assert ledger.releases_within(timedelta(days=2)) == 2
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b'"steps": 10', b'"steps": 1', 1))
    with pytest.raises(LedgerError, match="one was changed"):
        charged(ledger)


def test_a_later_format_is_not_guessed_at(ledger):
    line, _ = lines_of.first_line(lines_of.Ledger(id="abc"), datetime.now(UTC))
    facts = json.loads(line) | {"format": 3}
    del facts["chain"]
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(lines_of._chained(facts, "")[0])
    with pytest.raises(LedgerError, match="format 3, this version reads 2"):
        charged(ledger)


# --- killed ----------------------------------------------------------------------------------


def _die_after(ledger: SiteLedger, number: int) -> None:
    """Be killed at the ``number``-th time that something is put on the disk."""
    real, seen = os.fsync, 0

    def sync(descriptor: int) -> None:
        nonlocal seen
        real(descriptor)
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = sync
    charged(ledger)


def _killed_at(ledger: SiteLedger, number: int) -> bool:
    """Whether a process that charges got as far as its ``number``-th sync, and was killed there."""
    child = multiprocessing.get_context("fork").Process(target=_die_after, args=(ledger, number))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_process_killed_at_any_moment_stops_nobody_and_forgets_nothing(tmp_path, earlier):
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        ledger = SiteLedger(folder / "state" / "privacy.jsonl", Heads(folder / "heads"))
        for _ in range(earlier):
            charged(ledger)
        was_killed = _killed_at(ledger, number)
        written = events(ledger)
        assert written in ([EVENT] * earlier, [EVENT] * (earlier + 1))
        assert charged(ledger) == epsilon([EVENT] * (len(written) + 1), DELTA)
        if not was_killed:
            break
    assert number > 2


def test_two_ledgers_that_start_together_do_not_both_get_the_photos(tmp_path):
    ledgers = [
        SiteLedger(tmp_path / name / "privacy.jsonl", Heads(tmp_path / "heads")) for name in "ab"
    ]

    def begins(ledger: SiteLedger) -> bool:
        try:
            charged(ledger)
        except LedgerError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(begins, ledgers)) == [False, True]


def test_a_head_that_cannot_be_written_stops_before_the_line(ledger, monkeypatch):
    charged(ledger)
    before = ledger.path.read_bytes()
    monkeypatch.setattr(Heads, "keep", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(LedgerError, match="nothing is released"):
        charged(ledger, photos=PHOTOS | {"new"})
    assert ledger.path.read_bytes() == before


def test_lines_behind_the_head_are_not_taken_from_anybody(ledger):
    charged(ledger)
    ahead = ledger.read()
    for _ in range(3):
        line = lines_of.next_line(ahead, EVENT, fingerprint(PHOTOS), datetime.now(UTC))
        ahead = ahead.with_line(*line)
    ledger.path.write_bytes(ahead.text)
    with pytest.raises(LedgerError, match="3 lines behind its head"):
        charged(ledger)
