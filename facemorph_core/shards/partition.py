"""Who owns which face: a prepared shard dealt out to the sites of a simulation.

Only rows of split "train" are dealt; every one of them is at exactly one site. All kinds but iid
keep a person whole at one site, as a clinic or studio does; iid deals photos, so a person may be
at several sites. A seed gives the same deal everywhere, so each client finds its own faces alone.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from facemorph_core.config.schema import (
    ByPersonPartition,
    DataConfig,
    DirichletPartition,
    IIDPartition,
    PartitionConfig,
    QuantityPartition,
)
from facemorph_core.disk.cache import cache_dir
from facemorph_core.disk.output import locked
from facemorph_core.disk.private import PRIVATE_FILE, private_folder
from facemorph_core.errors import ConfigError, ShardError
from facemorph_core.shards.shard import Shard, write_view

__all__ = ["choose_val_people", "partition_rows", "site_view"]

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
_SOURCE = "the partition over sites"


def partition_rows(shard: Shard, config: PartitionConfig, sites: int, *, seed: int) -> list[Rows]:
    """Row numbers of ``shard`` for each site, ascending; disjoint, and all of "train" together.

    Where there are two people for every site, none gets fewer: a site that its drawn share would
    leave with less is given people of the largest one.

    Raises:
        ConfigError: there are not enough people (iid: photos) for so many sites, or the attribute
            is not in the shard.
    """
    rows = shard.rows("train")
    rng = np.random.default_rng([seed, sites])
    match config:
        case IIDPartition():
            _require(len(rows), sites, "photos")
            return [np.sort(part) for part in np.array_split(rng.permutation(rows), sites)]
        case ByPersonPartition():
            people = _people(shard, rows)
            _require(len(people), sites, "people")
            parts = np.array_split(rng.permutation(np.array(people)), sites)
            return _rows_of(shard, rows, [part.tolist() for part in parts])
        case QuantityPartition():
            people = _people(shard, rows)
            _require(len(people), sites, "people")
            dealt = _deal(people, rng.dirichlet(np.full(sites, config.alpha)), rng)
            return _rows_of(shard, rows, _topped_up(dealt))
        case DirichletPartition():
            groups = _people_by_value(shard, rows, config.attribute)
            _require(sum(map(len, groups)), sites, "people")
            owned: list[list[str]] = [[] for _ in range(sites)]
            for people in groups:
                shares = rng.dirichlet(np.full(sites, config.alpha))
                for site, part in enumerate(_deal(people, shares, rng)):
                    owned[site] += part
            return _rows_of(shard, rows, _topped_up(owned))
        case _:
            assert_never(config)


def site_view(shard: Shard, data: DataConfig, *, site: int, sites: int, seed: int) -> Shard:
    """The shard of site number ``site`` (from 0), as a view in the cache, made when first asked.

    ``data.site_val`` of its people (at least one, if there are two) are "val", the rest "train".
    The path is a digest of everything that decides the view, so settings never share one.

    Raises:
        ConfigError: as `partition_rows`.
        ValueError: ``site`` is not one of ``sites``.
    """
    if not 0 <= site < sites:
        raise ValueError(f"site {site} is not one of 0 to {sites - 1}")
    facts = {
        "base": [shard.digest(), str(shard.path)],
        "partition": data.partition.model_dump(),
        "site_val": data.site_val,
        "sites": sites,
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    out = cache_dir() / "views" / key / f"site-{site:04d}"
    private_folder(out.parent)
    with locked(out.with_name(f"{out.name}.lock"), mode=PRIVATE_FILE):
        if out.is_dir():
            try:
                return Shard.open(out)
            except ShardError as error:  # or its base was replaced; a view costs nothing
                log.warning("%s; making it again", error)
                shutil.rmtree(out)
        rows = partition_rows(shard, data.partition, sites, seed=seed)[site]
        people = _people(shard, rows)
        val = choose_val_people(people, share=data.site_val, seed=seed, site=site)
        splits = {int(row): "val" if shard.people[row] in val else "train" for row in rows.tolist()}
        return write_view(shard, rows, out, splits=splits)


def choose_val_people(people: Sequence[str], *, share: float, seed: int, site: int) -> set[str]:
    """People whom a site scores on and does not train on: ``share`` of them, one at least.

    Nobody, where the share is 0 or the site has a single person.
    """
    if share == 0 or len(people) < 2:
        return set()
    count = min(max(1, round(share * len(people))), len(people) - 1)
    rng = np.random.default_rng([seed, site, 1])
    return {people[int(index)] for index in rng.permutation(len(people))[:count]}


# --- pieces ----------------------------------------------------------------------------------


def _people(shard: Shard, rows: Rows) -> list[str]:
    return sorted({shard.people[row] for row in rows.tolist()})


def _rows_of(shard: Shard, rows: Rows, owned: Sequence[Sequence[str]]) -> list[Rows]:
    owner = {person: site for site, people in enumerate(owned) for person in people}
    sites = np.array([owner[shard.people[row]] for row in rows.tolist()])
    return [rows[sites == site] for site in range(len(owned))]


def _people_by_value(shard: Shard, rows: Rows, attribute: str) -> list[list[str]]:
    """People grouped by the sign of their photos' values: no, unknown or undecided, yes."""
    if attribute not in shard.attributes:
        raise ConfigError(_SOURCE, [f"data.partition.attribute: {_unknown(shard, attribute)}"])
    column = shard.attributes[attribute]
    totals: dict[str, int] = {}
    for row in rows.tolist():
        person = shard.people[row]
        totals[person] = totals.get(person, 0) + int(column[row])
    return [
        sorted(person for person, total in totals.items() if np.sign(total) == value)
        for value in (-1, 0, 1)
    ]


def _unknown(shard: Shard, attribute: str) -> str:
    names = sorted(shard.attributes)
    if not names:
        return f"the shard has no attributes at all (got '{attribute}'); use another partition"
    close = difflib.get_close_matches(attribute, names, n=1)
    guess = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(names)}"
    return f"the shard has no attribute '{attribute}'; {guess}"


def _require(have: int, sites: int, what: str) -> None:
    if have < sites:
        raise ConfigError(
            _SOURCE,
            [f"federation.sites: {sites} sites, but only {have} {what} to train on"],
            hint=f"use {max(have, 1)} sites or fewer, or more data (data.limit, data.source)",
        )


def _deal(
    people: Sequence[str], shares: NDArray[np.float64], rng: np.random.Generator
) -> list[list[str]]:
    """People in random order, cut where the shares say."""
    cuts = np.round(np.cumsum(shares)[:-1] * len(people)).astype(np.int64)
    order = rng.permutation(len(people))
    return [[people[int(index)] for index in part] for part in np.split(order, cuts)]


def _topped_up(owned: list[list[str]]) -> list[list[str]]:
    """Nobody below two people where they suffice for that, else below one."""
    least = 2 if sum(map(len, owned)) >= 2 * len(owned) else 1
    while len(poorest := min(owned, key=len)) < least:
        poorest.append(max(owned, key=len).pop())
    return owned
