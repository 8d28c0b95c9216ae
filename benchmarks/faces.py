"""Which faces a benchmark fits on and which it scores; no person is in both.

| split | fits on                        | scores                                  |
|-------|--------------------------------|-----------------------------------------|
| tune  | the train part, less 200 people | those 200 people                       |
| val   | the whole train part           | the val part: once for a published table |

`tune` is for trying things, so that what is published was never tuned on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facemorph_core.errors import ShardError
from facemorph_core.shards.shard import Shard, write_view

__all__ = ["QUICK_SCORED", "QUICK_TRAIN", "TUNE_PEOPLE", "Split", "faces_for", "whole_people"]

TUNE_PEOPLE = 200
QUICK_TRAIN, QUICK_SCORED = 600, 100  # photos

Split = Literal["tune", "val"]
Rows = NDArray[np.int64]


def faces_for(shard: Shard, split: Split, *, quick: bool, seed: int, folder: Path) -> Shard:
    """A shard whose "train" is fitted on and whose "val" is scored.

    It is ``shard`` itself where that is already so, else a view of it in ``folder``, drawn with
    ``seed``; a ``quick`` one has QUICK_TRAIN and QUICK_SCORED photos.

    Raises:
        ShardError: there is nobody to fit on, or nobody to score.
    """
    train, scored = shard.rows("train"), shard.rows("val")
    if split == "tune":
        drawn = _shuffled(shard, train, seed=seed)[:TUNE_PEOPLE]
        is_held = np.isin(np.asarray(shard.people)[train], drawn)
        train, scored = train[~is_held], train[is_held]
    if quick:
        train = whole_people(shard, train, QUICK_TRAIN, seed=seed)
        scored = whole_people(shard, scored, QUICK_SCORED, seed=seed)
    if not len(train) or not len(scored):
        raise ShardError(
            f"{shard.path} has {len(train)} photos to fit on and {len(scored)} to score ({split})",
            hint="use a source with more people, or the other --split",
        )
    if split == "val" and not quick:
        return shard
    if folder.is_dir():
        return Shard.open(folder)
    splits = dict.fromkeys(train.tolist(), "train") | dict.fromkeys(scored.tolist(), "val")
    return write_view(shard, np.sort(np.concatenate([train, scored])), folder, splits=splits)


def whole_people(shard: Shard, rows: Rows, count: int, *, seed: int) -> Rows:
    """``count`` of ``rows``: person after person, of the last one as many as fit."""
    owners = np.asarray(shard.people)[rows]
    order = {person: place for place, person in enumerate(_shuffled(shard, rows, seed=seed))}
    places = np.argsort([order[person] for person in owners], kind="stable")
    return np.sort(rows[places[:count]])


def _shuffled(shard: Shard, rows: Rows, *, seed: int) -> list[str]:
    """The people of ``rows``."""
    people = np.unique(np.asarray(shard.people)[rows])
    return np.random.default_rng([seed, 3]).permutation(people).tolist()
