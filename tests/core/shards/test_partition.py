"""Laws of dealing faces to sites: a disjoint cover, whole people, the same deal for a seed."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facemorph_core.config.schema import (
    ByPersonPartition,
    DataConfig,
    DirichletPartition,
    IIDPartition,
    QuantityPartition,
)
from facemorph_core.errors import ConfigError
from facemorph_core.shards.partition import choose_val_people, partition_rows, site_view
from facemorph_core.shards.shard import Shard
from tests.core.faces import small_shard
from tests.core.systems import on_posix

WHOLE_PEOPLE = [
    ByPersonPartition(),
    QuantityPartition(alpha=0.3),
    DirichletPartition(attribute="Male", alpha=0.3),
]
ALL = [IIDPartition(), *WHOLE_PEOPLE]


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """36 people with 1 to 4 photos; half of them Male; 4 people held out."""
    people = {f"p{n:02d}": 1 + n % 4 for n in range(36)}
    attributes = {name: {"Male": 1 if n % 2 else -1} for n, name in enumerate(people)}
    out = tmp_path_factory.mktemp("partition") / "shard"
    return small_shard(out, people, held_out={f"v{n}": 2 for n in range(4)}, attributes=attributes)


def people_of(shard, rows):
    return {shard.people[row] for row in rows.tolist()}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.kind)
@given(sites=st.integers(1, 18), seed=st.integers(0, 10_000))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_train_face_is_at_exactly_one_site(shard, kind, sites, seed):
    parts = partition_rows(shard, kind, sites, seed=seed)
    assert len(parts) == sites
    assert all(len(part) > 0 for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), shard.rows("train"))
    again = partition_rows(shard, kind, sites, seed=seed)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))


@pytest.mark.parametrize("kind", WHOLE_PEOPLE, ids=lambda kind: kind.kind)
@given(sites=st.integers(1, 36), seed=st.integers(0, 10_000))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_people_stay_whole_and_every_site_has_two_where_possible(shard, kind, sites, seed):
    people = [people_of(shard, rows) for rows in partition_rows(shard, kind, sites, seed=seed)]
    assert sum(map(len, people)) == len(set().union(*people)) == 36
    assert min(map(len, people)) >= (2 if sites <= 18 else 1)


@given(sites=st.integers(1, 36), seed=st.integers(0, 10_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_by_person_deals_people_evenly(shard, sites, seed):
    parts = partition_rows(shard, ByPersonPartition(), sites, seed=seed)
    counts = [len(people_of(shard, rows)) for rows in parts]
    assert max(counts) - min(counts) <= 1
    assert counts == [9, 9, 9, 9] or sites != 4


def test_another_seed_is_another_deal(shard):
    deals = [partition_rows(shard, kind, 4, seed=seed) for kind in ALL for seed in (0, 1)]
    for one, other in zip(deals[::2], deals[1::2], strict=True):
        assert [part.tolist() for part in one] != [part.tolist() for part in other]


def spread(shard, kind, of):
    return np.mean(
        [np.std([of(r) for r in partition_rows(shard, kind, 4, seed=s)]) for s in range(20)]
    )


def test_a_small_alpha_is_unequal_a_large_one_nearly_equal(shard):
    unequal, equal = (QuantityPartition(alpha=alpha) for alpha in (0.2, 1000.0))
    assert spread(shard, unequal, len) > 3 * spread(shard, equal, len)

    def share_male(rows):
        return (shard.attributes["Male"][rows] == 1).mean()

    skewed, even = (DirichletPartition(attribute="Male", alpha=alpha) for alpha in (0.2, 1000.0))
    assert spread(shard, skewed, share_male) > 2 * spread(shard, even, share_male)


def test_too_many_sites_say_what_to_change(shard):
    for kind in WHOLE_PEOPLE:
        with pytest.raises(ConfigError, match="37 sites, but only 36 people") as caught:
            partition_rows(shard, kind, 37, seed=0)
        assert "36 sites or fewer" in caught.value.hint
    with pytest.raises(ConfigError, match="photos"):
        partition_rows(shard, IIDPartition(), 1000, seed=0)


def test_an_unknown_attribute_is_answered_with_a_guess(shard, tmp_path):
    with pytest.raises(ConfigError, match="no attribute 'Mael'; did you mean 'Male'"):
        partition_rows(shard, DirichletPartition(attribute="Mael"), 2, seed=0)
    plain = small_shard(tmp_path / "plain", ["a", "b"])
    with pytest.raises(ConfigError, match="no attributes at all"):
        partition_rows(plain, DirichletPartition(attribute="Male"), 2, seed=0)


# --- views of sites --------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))


def test_a_site_trains_on_most_of_its_people_and_scores_on_the_rest(shard):
    views = [site_view(shard, DataConfig(), site=site, sites=4, seed=3) for site in range(4)]
    everyone = [set(view.people) for view in views]
    assert len(set().union(*everyone)) == 36
    for view in views:
        train, val = (people_of(view, view.rows(split)) for split in ("train", "val"))
        assert (len(train), len(val)) == (8, 1)
        assert not train & val
        assert view.is_view
        assert "v0" not in view.people


def test_settings_never_share_a_view_and_the_same_settings_do(shard, tmp_path):
    def path(seed=0, sites=4, base=shard, **data):
        return site_view(base, DataConfig(**data), site=1, sites=sites, seed=seed).path

    other = small_shard(tmp_path / "other", {f"p{n}": 1 for n in range(10)}, seed=9)
    paths = [
        path(),
        path(seed=1),
        path(sites=5),
        path(site_val=0.3),
        path(partition={"kind": "iid"}),
        path(partition={"kind": "quantity", "alpha": 2.0}),
        path(partition={"kind": "quantity", "alpha": 3.0}),
        path(base=other),
    ]
    assert len(set(paths)) == len(paths)
    assert path() == paths[0]
    assert all(inside.is_relative_to(tmp_path / "cache") for inside in paths)


def test_a_view_whose_base_was_prepared_again_is_made_again(tmp_path):
    base = small_shard(tmp_path / "base", ["a", "b", "c", "d"])
    before = site_view(base, DataConfig(), site=0, sites=2, seed=0)
    (before.path / "index.csv").write_text("damaged")
    after = site_view(base, DataConfig(), site=0, sites=2, seed=0)
    assert after.path == before.path
    assert after.people == before.people


def _look(path, results):
    view = site_view(Shard.open(path), DataConfig(), site=0, sites=2, seed=0)
    results.put((len(view), str(view.path)))


@on_posix
def test_several_processes_may_ask_at_once(shard):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    asking = [context.Process(target=_look, args=(shard.path, results)) for _ in range(4)]
    for process in asking:
        process.start()
    answers = {results.get() for _ in asking}
    for process in asking:
        process.join()
    assert len(answers) == 1


@given(people=st.integers(0, 50), share=st.floats(0, 0.99), seed=st.integers(0, 100))
def test_val_people_are_some_but_never_all(people, share, seed):
    names = [str(n) for n in range(people)]
    chosen = choose_val_people(names, share=share, seed=seed, site=0)
    assert chosen <= set(names)
    if share > 0 and people >= 2:
        assert 1 <= len(chosen) < people
    else:
        assert not chosen


def test_a_site_out_of_range_is_a_programmers_mistake(shard):
    with pytest.raises(ValueError, match="site 4 is not one of 0 to 3"):
        site_view(shard, DataConfig(), site=4, sites=4, seed=0)
