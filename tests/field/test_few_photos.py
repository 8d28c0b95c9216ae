"""Sites with hardly any photos.

Public reports:
    | FedML 175: a division by zero at a client that got no data of an uneven deal
    | Flower 7708, 7693: a division by zero where all clients report no examples
    | Opacus 522, 161: batches that a Poisson sample leaves empty end the training
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from client.app import app as client_app
from facemorph_core.alignment.frame import mean_shape
from facemorph_core.disk.records import read_metrics
from facemorph_core.errors import FederationError
from facemorph_core.shards.shard import IndexRow, write_shard
from server.app import app as server_app
from server.runstate import read_state
from tests.federation.local_grid import LocalGrid, site_settings, soft_faces, write_config

DP = {"noise_multiplier": 1.0, "max_epsilon": 1000.0}


def shard(path: Path, *, train: int, val: int, seed: int) -> None:
    """So many photos to train on, and so many that are kept aside; each its own person."""
    count = train + val
    index = [
        IndexRow(
            person=f"p{i}",
            split="train" if i < train else "val",
            digest=hashlib.sha256(f"{path.name}, photo {i}".encode()).hexdigest(),
        )
        for i in range(count)
    ]
    landmarks = np.repeat(mean_shape(32)[None].astype(np.float32), count, axis=0)
    write_shard(path, soft_faces(count, 32, seed=seed), landmarks, index)


@pytest.fixture
def federation(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))

    def run(*sizes: tuple[int, int], **sections) -> list[dict]:
        for number, (train, val) in enumerate(sizes, 1):
            shard(tmp_path / f"shard-{number}", train=train, val=val, seed=number)
        config = write_config(tmp_path / "tiny.yaml", federation={"rounds": 1}, **sections)
        run_config = {"config": str(config), "overrides": "", "run-dir": str(tmp_path / "run")}
        sites = {n: site_settings(tmp_path, n) for n in range(1, len(sizes) + 1)}
        grid = LocalGrid(dict.fromkeys(sites, client_app), sites, run_config)
        server_app(grid, Context(1, 0, {}, RecordDict(), run_config))
        assert read_state(tmp_path / "run").status == "completed"
        return read_metrics(tmp_path / "run")[1:]

    return run


def test_a_site_without_photos_to_train_on_is_set_aside_with_the_reason(federation):
    last = federation((0, 4), (8, 4), (8, 4))[-1]
    assert last["used"] == ["clinic-2", "clinic-3"]
    (aside,) = last["set_aside"]
    assert "shard is missing, empty or damaged" in aside["reason"]


def test_one_photo_each_and_none_kept_aside_is_a_federation(federation):
    for entry in federation((1, 0), (1, 0), (1, 0)):
        assert entry["examples"] == 3
        assert entry["sites"] == {}
        assert not entry.get("set_aside")


@pytest.mark.parametrize("batch", [1, 64])
def test_under_dp_one_photo_is_enough_and_empty_batches_are_steps(federation, batch):
    """64 is more than all photos; a rate of one in three leaves batches without any."""
    sizes = ((1, 0), (2, 1), (3, 0))
    last = federation(*sizes, privacy=DP, training={"batch_size": batch})[-1]
    assert last["used"] == ["clinic-1", "clinic-2", "clinic-3"]


def test_a_federation_without_photos_ends_in_a_sentence(federation):
    with pytest.raises(FederationError, match="0 usable replies of 2 needed"):
        federation((0, 4), (0, 4), (0, 4))
