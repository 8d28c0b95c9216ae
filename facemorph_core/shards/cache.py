"""Where prepared faces are kept for this user, and the one way to get a run's faces.

The cache holds nothing that cannot be made again; several processes may ask at once. What is
damaged in it is prepared again: the small files are verified whenever they are opened, the pixels
when their file is not as it was when they were verified last (to read a gigabyte takes seconds).
``NAME.verified`` beside the shard NAME says when that was, and holds the digest of its shard.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
            return _verified(out)
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
        if out.is_dir():
            with contextlib.suppress(ShardError):
                return _verified(out)  # another process made it meanwhile
            with reported_output(out):
                shutil.rmtree(out)
        shard = prepare_shard(
            data.source,
            expanded(data.path) if data.path else None,
            out,
            limit=data.limit,
            seed=seed,
            progress=progress,
            force=True,
        )
        _note(shard)
        return shard


def _verified(path: Path) -> Shard:
    """The shard, its pixels read whole unless nobody touched them since they were.

    Raises:
        ShardError: it is damaged.
    """
    shard = Shard.open(path)
    noted = _noted(shard)
    if noted.get("shard.json") not in (None, shard.digest()):
        raise ShardError(f"{path} is damaged: shard.json is not as it was written")
    if noted.get("faces.npy") != _touched(shard):
        shard.verify_pixels()
        _note(shard)
    return shard


def _noted(shard: Shard) -> dict[str, Any]:
    """What `_note` left; nothing where it left nothing that can be read."""
    try:
        noted = json.loads(_note_of(shard).read_bytes())
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _note(shard: Shard) -> None:
    noted = {"shard.json": shard.digest(), "faces.npy": _touched(shard)}
    with contextlib.suppress(OutputError):  # then they are read whole the next time, too
        write_atomic(_note_of(shard), json.dumps(noted).encode(), private=True)


def _note_of(shard: Shard) -> Path:
    return shard.path.with_name(f"{shard.path.name}.verified")


def _touched(shard: Shard) -> list[int]:
    """What the system changes when a file is: its length, and the times of content and entry."""
    stat = shard.faces_file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


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
