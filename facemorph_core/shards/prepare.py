"""Photos -> a shard: find the face, align it, keep it or say why not.

All cores work; memory does not grow with the number of photos. Work goes to ``OUT.partial/`` and
becomes OUT by one rename at the end, so OUT is whole or not there; after a kill, a full disk or
Ctrl-C the same call goes on where it stopped. Photos are taken in the source's order, whatever the
number of workers: the same photos give the same shard, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from facemorph_core.alignment.detector_names import DetectorName
from facemorph_core.alignment.dlib_files import check_landmarks
from facemorph_core.alignment.doubts import kind_of
from facemorph_core.alignment.frame import frame_digest, framing
from facemorph_core.errors import OutputError, ShardError
from facemorph_core.machine.progress import Progress
from facemorph_core.shards.partial import PartialShard
from facemorph_core.shards.shard import FORMAT_VERSION, Shard
from facemorph_core.shards.sources import SourcePhoto, list_photos
from facemorph_core.shards.workers import Way, align_all

__all__ = ["doubtful_rows", "prepare_shard", "skipped_by_reason"]

log = logging.getLogger(__name__)


def prepare_shard(
    source: str,
    src: Path | None,
    out: Path,
    *,
    limit: int = 0,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    face: Literal["largest", "only"] = "largest",
    detector: DetectorName = "dlib",
    force: bool = False,
) -> Shard:
    """Prepare the photos of a source; a shard of the same photos at ``out`` is returned as it is.

    Args:
        source: "folder", "celeba" or "orl".
        src: its folder; None only for orl.
        out: directory of the shard.
        limit: at most so many photos, whole people first; 0 is all.
        seed: who is held out, where the source does not say.
        workers: processes; None is one per core.
        progress: called with (photos done, photos in all), now and then.
        face: of several in a photo, take the largest, or skip the photo.
        detector: who finds faces and places their landmarks, all of a shard; told in shard.json.
        force: replace another or a damaged shard at ``out``, and work of another preparation.

    Raises:
        ShardError: no photos, none usable, or ``out`` belongs to another preparation.
        OutputError: ``out`` cannot be written, and the work that was done is kept; or some of the
            photos lie in it.
    """
    out = Path(os.path.abspath(out.expanduser()))  # noqa: PTH100 - a link at `out` is not followed
    photos = list_photos(source, src, limit=limit, seed=seed)
    _check_apart(photos, out)
    plan = _plan(source, photos, face=face, detector=detector)
    if out.exists() and (there := _there_already(out, plan, force=force)) is not None:
        log.info("%s holds these photos already", out)
        return there
    if detector == "dlib":
        check_landmarks()
    with PartialShard.locked(out, plan, force=force) as work:
        work.require_space(len(photos))
        _work_through(work, photos, Way(face, detector), workers=workers, progress=progress)
        if not work.index_entries:
            counts = _by_reason(reason for _, reason in work.skipped)
            work.discard()
            raise ShardError(f"none of the {len(photos)} photos can be used: {_told(counts)}")
        work.finish(photos, source=source, detector=detector)
    return Shard.open(out)


def skipped_by_reason(shard: Shard) -> Counter[str]:
    """How many photos were skipped for what; details in brackets do not tell reasons apart."""
    return _by_reason(entry["reason"] for entry in shard.skipped)


def doubtful_rows(shard: Shard) -> dict[str, list[int]]:
    """Which rows have which kind of doubt, the most frequent first; none where nobody looked."""
    rows: dict[str, list[int]] = {}
    for row, doubts in sorted((shard.doubts or {}).items()):
        for kind in {*map(kind_of, doubts)}:
            rows.setdefault(kind, []).append(row)
    return dict(sorted(rows.items(), key=lambda each: (-len(each[1]), each[0])))


def _work_through(
    work: PartialShard,
    photos: Sequence[SourcePhoto],
    way: Way,
    *,
    workers: int | None,
    progress: Progress | None,
) -> None:
    tell = progress or (lambda done, total: None)
    if work.done:
        log.info("going on after %d of %d photos", work.done, len(photos))
    tell(work.done, len(photos))
    paths = [photo.path for photo in photos[work.done :]]
    try:
        for chunk in align_all(paths, way, workers=workers):
            work.append(chunk)
            tell(work.done, len(photos))
    except KeyboardInterrupt:
        log.warning(
            "stopped after %d of %d photos; the same command goes on", work.done, len(photos)
        )
        raise


def _plan(source: str, photos: Sequence[SourcePhoto], *, face: str, detector: str) -> str:
    """Digest of what decides the shard; names and sizes stand for the photos' contents."""
    plan = hashlib.sha256()
    facts = [FORMAT_VERSION, framing(), frame_digest(), source, face]
    if detector != "dlib":  # whose plans were made before there was another
        facts.append(detector)
    plan.update(json.dumps(facts, sort_keys=True).encode())
    for photo in photos:
        size = photo.path.stat().st_size if photo.path.is_file() else -1
        facts = [photo.name, size, photo.person, photo.split, dict(photo.attributes)]
        plan.update(json.dumps(facts, sort_keys=True).encode())
    return plan.hexdigest()


def _check_apart(photos: Sequence[SourcePhoto], out: Path) -> None:
    """Refuse a shard that would replace photos, or whose work would: its folders end as removed."""
    folders = {photo.path.parent.resolve() for photo in photos}
    for place in (out, PartialShard(out, "").directory):
        if any(folder.is_relative_to(place.resolve()) for folder in folders):
            raise OutputError(
                f"photos that are prepared lie in {place}, which would be replaced",
                hint="choose a place for OUT where no photo is",
            )


def _there_already(out: Path, plan: str, *, force: bool) -> Shard | None:
    """The shard at ``out`` if it is the one that is asked for; None if it may be replaced."""
    if not out.is_dir() or (any(out.iterdir()) and not (out / "shard.json").exists()):
        raise OutputError(f"{out} exists and is not a shard", hint="choose another name for OUT")
    try:
        shard = Shard.open(out)
        if force:
            shard.verify_pixels()
    except ShardError:
        if force or not any(out.iterdir()):
            return None
        raise
    if shard.manifest.get("plan") == plan:
        return shard
    if not force:
        raise ShardError(
            f"{out} is a shard of other photos or settings",
            hint="choose another name for OUT, or replace it with --force",
        )
    return None


def _by_reason(reasons: Iterable[str]) -> Counter[str]:
    return Counter(reason.split(" (")[0] for reason in reasons)


def _told(counts: Counter[str]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in counts.most_common())
