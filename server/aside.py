"""What a run went back behind, moved out of its way: nothing of it is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facemorph_core.disk.output import sync_folder
from facemorph_core.disk.records import numbered
from server.checkpoints import Checkpoints

__all__ = ["free_folder", "later_files", "move"]


def later_files(run: Path, *, after: int) -> Iterator[Path]:
    """Checkpoints and pictures of the rounds past ``after``."""
    yield from Checkpoints(run).files(after=after)
    for number, path in numbered(run / "samples", "round", ".png").items():
        if number > after:
            yield path


def free_folder(run: Path) -> Path:
    """The first of ``rolled-back-N`` that is not there yet."""
    number = 1
    while (folder := run / f"rolled-back-{number}").exists():
        number += 1
    return folder


def move(path: Path, target: Path) -> None:
    """Give a file another name, whose folder is made; on the disk before this returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    sync_folder(target.parent)
    sync_folder(path.parent)
