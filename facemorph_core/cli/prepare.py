"""Find and align the faces of many photos, ready for training."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemorph_core.machine.printable import tell

if TYPE_CHECKING:
    from facemorph_core.shards.shard import Shard

NAMED = 5
"""Rows that are told one by one."""


class Source(StrEnum):
    """Layouts of photos that are read."""

    folder = "folder"
    celeba = "celeba"
    orl = "orl"


class Detector(StrEnum):
    """Who finds faces; each shard has one."""

    dlib = "dlib"
    mediapipe = "mediapipe"


class FaceRule(StrEnum):
    """Which face of a photo with several."""

    largest = "largest"
    only = "only"


def prepare(
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory of the shard to make.")],
    src: Annotated[
        Path | None,
        typer.Argument(metavar="[SRC]", help="Folder of the photos; not needed for orl."),
    ] = None,
    source: Annotated[
        Source,
        typer.Option(help="folder: SRC/person/photo.jpg; celeba: its official layout; orl: demo."),
    ] = Source.folder,
    limit: Annotated[
        int, typer.Option(min=0, help="At most so many photos, whole people first; 0 is all.")
    ] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. [default: one per core]")
    ] = None,
    face: Annotated[
        FaceRule, typer.Option(help="Of several faces take the largest, or skip the photo.")
    ] = FaceRule.largest,
    detector: Annotated[
        Detector,
        typer.Option(
            help="Who finds faces. Sites that train together, and the model that goes on, need the "
            "same: the starter was trained on dlib's."
        ),
    ] = Detector.dlib,
    seed: Annotated[
        int, typer.Option(min=0, help="Who is held out, where the source does not say.")
    ] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another shard, or its unfinished work, at OUT.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Find and align the faces of many photos, ready for training.

    Interrupted work goes on where it stopped when the same command is given again. Photos without
    a usable face are skipped and listed with the reason in OUT/shard.json, which stays here; so are
    the rows of faces about which something is doubtful.

    Landmarks come from dlib's 68-point predictor, whose training data exclude commercial use, or
    with --detector mediapipe from MediaPipe's face mesh, fitted to lie where dlib's do.

    Examples:
      facemorph-core prepare photos/ --source folder --out shard/
          photos/anna/1.jpg, photos/ben/1.jpg ...: one folder per person
      facemorph-core prepare celeba/ --source celeba --out shard/ --limit 10000
    """
    from facemorph_core.machine.progress import progress_bar
    from facemorph_core.shards.prepare import prepare_shard

    if src is None and source is not Source.orl:
        raise typer.BadParameter(
            f"--source {source} needs the folder of the photos", param_hint="SRC"
        )
    start = time.monotonic()
    with progress_bar("aligning") as progress:
        shard = prepare_shard(
            source.value,
            src,
            out,
            limit=limit,
            seed=seed,
            workers=workers,
            face=face.value,
            detector=detector.value,
            force=force,
            progress=progress,
        )
    summary = summary_of(shard, seconds=time.monotonic() - start)
    tell(json.dumps(summary) if as_json else _told(summary))


command = prepare


def summary_of(shard: Shard, *, seconds: float) -> dict[str, Any]:
    """What was made and what was left out."""
    from facemorph_core.shards.prepare import doubtful_rows, skipped_by_reason

    counts = shard.manifest["counts"]
    return {
        "shard": str(shard.path),
        "photos": counts["photos"],
        "people": counts["people"],
        "detector": shard.detector,
        "splits": {split: counts[split] for split in ("train", "val", "test")},
        "skipped": dict(skipped_by_reason(shard).most_common()),
        "doubtful": doubtful_rows(shard),
        "seconds": round(seconds, 1),
    }


def _told(summary: dict[str, Any]) -> str:
    splits = ", ".join(f"{count} {split}" for split, count in summary["splits"].items() if count)
    lines = [
        f"{summary['photos']} faces of {summary['people']} people in {summary['seconds']} s "
        f"({splits}): {summary['shard']}"
    ]
    if summary["skipped"]:
        total = sum(summary["skipped"].values())
        lines.append(f"{total} photos skipped, listed in {summary['shard']}/shard.json:")
        lines += [f"  {count:6d}  {reason}" for reason, count in summary["skipped"].items()]
    if summary["doubtful"]:
        total = len({row for rows in summary["doubtful"].values() for row in rows})
        lines.append(f"{total} faces are doubtful, listed in {summary['shard']}/shard.json:")
        lines += [
            f"  {len(rows):6d}  {kind} ({_rows_told(rows)})"
            for kind, rows in summary["doubtful"].items()
        ]
    return "\n".join(lines)


def _rows_told(rows: list[int]) -> str:
    named = ", ".join(map(str, rows[:NAMED]))
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {named}{more}"
