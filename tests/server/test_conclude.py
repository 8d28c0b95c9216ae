"""What is left at the end of a run, where something of it is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facemorph_core.config import RunConfig
from facemorph_core.errors import OutputError
from server.conclude import describe_partition
from server.runs import RunDirectory
from tests.federation.local_grid import tiny_shard


@pytest.mark.parametrize("figures", [None, '{"round": 1, "present": "x"}\n'])
def test_who_owned_which_faces_is_told_without_the_figures_of_the_rounds(
    tmp_path: Path, figures: str | None
) -> None:
    shard = tiny_shard(tmp_path / "shard", count=24)
    config = RunConfig(
        name="test",
        data={"source": "shard", "path": str(shard.path)},
        federation={"sites": 3},
    )
    with RunDirectory.held(tmp_path / "run", config) as run:
        if figures:
            (run.path / "metrics.jsonl").write_text(figures)
        describe_partition(run)
        assert len(json.loads((run.path / "partition.json").read_text())) == 3
        (run.path / "partition.png").unlink()
        (run.path / "partition.png").mkdir()
        with pytest.raises(OutputError, match=r"partition\.png cannot be written"):
            describe_partition(run)
