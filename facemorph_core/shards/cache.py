"""Where prepared faces are kept for this user, and the one way to get a run's faces.

The cache holds nothing that cannot be made again; several processes may ask at once. What is
damaged in it is prepared again: the small files are verified whenever they are opened, the pixels
when their file is not as it was when they were verified last (to read a gigabyte takes seconds).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facemorph_core.alignment.frame import framing
from facemorph_core.config.schema import DataConfig
from facemorph_core.disk.cache import cache_dir
from facemorph_core.disk.output import locked, reported_output
from facemorph_core.disk.private import PRIVATE_FILE, private_folder
from facemorph_core.disk.records import write_atomic
from facemorph_core.errors import OutputError, ShardError
from facemorph_core.machine.progress import Progress
from facemorph_core.shards.shard import FORMAT_VERSION, Shard
from facemorph_core.shards.sources import has_official_splits

__all__ = ["expanded", "shard_for"]

log = logging.getLogger(__name__)


def expanded(path: str) -> Path:
    """A path of a config: ``~`` and $VARIABLES expanded, absolute."""
    return Path(os.path.expandvars(path)).expanduser().resolve()


def shard_for(data: DataConfig, *, seed: int, progress: Progress | None = None) -> Shard:
    """The shard of a run's data section: opened in place, from the cache, or prepared now.

    ``seed`` decides who is held out where the source has no official split. Only one process
    prepares; others wait for it. A preparation that was killed goes on where it stopped.
    """
    if data.source == "shard":
        return Shard.open(expanded(data.path))
    out = cache_dir() / "shards" / f"{data.source}-{_key(data, seed=seed)}"
    if out.is_dir():
        try:
            return _verified(Shard.open(out))
        except ShardError as error:
            log.warning("%s; preparing it again", error)
    with reported_output(out.parent):
        private_folder(out.parent)
    from facemorph_core.shards.prepare import prepare_shard  # loads OpenCV

    if str(out) == os.environ.get(_PREPARING):
        # A worker imports the script that started it. Without a guard the script asks for the
        # very shard that it is preparing, and would wait for its own lock for ever.
        raise ShardError(
            "a worker of the preparation ran the script that prepares",
            hint='put the script\'s work under `if __name__ == "__main__":`',
        )
    lock = out.with_name(f"{out.name}.lock")
    with locked(lock, mode=PRIVATE_FILE), _told_to_workers(out):
        shard = prepare_shard(
            data.source,
            expanded(data.path) if data.path else None,
            out,
            limit=data.limit,
            seed=seed,
            progress=progress,
            force=True,
        )
        _note(shard, _now(shard))
        return shard


def _verified(shard: Shard) -> Shard:
    """The shard, its pixels read whole unless nobody touched them since they were.

    Raises:
        ShardError: they are damaged.
    """
    now = _now(shard)
    with contextlib.suppress(OSError, ValueError):
        if json.loads(_noted(shard).read_bytes()) == now:
            return shard
    shard.verify_pixels()
    _note(shard, now)
    return shard


def _noted(shard: Shard) -> Path:
    return shard.path.with_name(f"{shard.path.name}.verified")


def _now(shard: Shard) -> list[int]:
    """What the system changes when a file is: length, and times of its content and its entry."""
    stat = shard.faces_file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _note(shard: Shard, now: list[int]) -> None:
    with contextlib.suppress(OutputError):  # then they are read whole the next time, too
        write_atomic(_noted(shard), json.dumps(now).encode(), private=True)


_PREPARING = "FACEMORPH_PREPARING"


@contextmanager
def _told_to_workers(out: Path) -> Iterator[None]:
    """Processes started inside know which shard is being prepared."""
    os.environ[_PREPARING] = str(out)
    try:
        yield
    finally:
        del os.environ[_PREPARING]


def _key(data: DataConfig, *, seed: int) -> str:
    """What the shard depends on, cheap enough to compute for every message of every client."""
    source = expanded(data.path) if data.path else None
    facts = {
        "format": FORMAT_VERSION,
        "framing": framing(),
        "source": data.source,
        "path": str(source),
        "limit": data.limit,
        "seed": None if source and has_official_splits(data.source, source) else seed,
        "stamp": _stamp(source),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _stamp(source: Path | None) -> list[int]:
    """Times of the folder and of the folders in it: they change as photos come and go."""
    if source is None or not source.is_dir():
        return []
    with os.scandir(source) as entries:
        inside = sorted(entry.stat().st_mtime_ns for entry in entries if entry.is_dir())
    return [source.stat().st_mtime_ns, *inside]
