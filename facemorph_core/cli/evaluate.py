"""Score a model's reconstructions of the faces of a shard."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facemorph_core.cli.morph_options import files_read
from facemorph_core.errors import MissingExtra, ModelError, ShardError, WeightsUnavailable
from facemorph_core.machine.printable import tell
from facemorph_core.machine.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from facemorph_core.bundle.read import Bundle
    from facemorph_core.evaluation.reconstructions import Judge
    from facemorph_core.evaluation.report import Evaluation
    from facemorph_core.shards.shard import Shard


class Split(StrEnum):
    """Parts of a shard."""

    train = "train"
    val = "val"
    test = "test"


class Metric(StrEnum):
    """What can be measured."""

    psnr = "psnr"
    ssim = "ssim"
    lpips = "lpips"
    identity = "identity"


def evaluate(
    shard: Annotated[Path, typer.Option(help="Directory of the shard.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Bundle, run directory, hub://HOST:PORT/NAME@VERSION, or starter: the one that "
            "comes with this program. [default: starter]"
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which faces of the shard.")] = Split.val,
    metrics: Annotated[
        str, typer.Option(help="Of psnr, ssim, lpips and identity, separated by commas.")
    ] = "psnr,ssim,lpips",
    max_faces: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many faces, spread over the split. [default: all]"),
    ] = None,
    fit: Annotated[
        int,
        typer.Option(min=0, help="Steps that fit each code to its face; the encoder alone is 0."),
    ] = 0,
    by_group: Annotated[
        bool,
        typer.Option("--by-group", help="In JSON, also by the shard's attributes and brightness."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    per_image: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Also write each face's scores.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also write scores.json, per-image.csv and a picture of faces."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:
    """Score a model's reconstructions of the faces of a shard.

    PSNR and SSIM are given for the whole frame and inside the landmark hull, LPIPS for the frame.
    Intervals are bootstrapped over people. A metric whose weights are not here is named with the
    command that gets them; the others are still measured.

    \b
    Examples:
      facemorph-core evaluate --model runs/demo --shard shard/ --split val
      facemorph-core evaluate --model model.facemorph --shard shard/ --split test \\
          --metrics psnr,ssim,lpips,identity --json | jq .psnr.mean
    """  # noqa: D301 - \b is click's
    from facemorph_core.disk.output import check_writable
    from facemorph_core.evaluation.report import check_report, to_json, write_csv, write_report

    wanted = _metrics(metrics)
    if per_image is not None:
        check_writable(per_image, force=force, inputs=files_read([*shard.glob("*")], model))
    if report is not None:
        check_report(report, force=force)
    done = _evaluated(model, shard, split.value, wanted, max_faces, fit=fit, by_group=by_group)
    if per_image is not None:
        write_csv(done, per_image, force=force)
    if report is not None:
        write_report(done, report, force=force)
    if as_json:
        tell(json.dumps(to_json(done), indent=1))
    else:
        _show(done)


command = evaluate


def _evaluated(
    model: str | None,
    shard: Path,
    split: str,
    wanted: Sequence[Metric],
    max_faces: int | None,
    *,
    fit: int,
    by_group: bool,
) -> Evaluation:
    from facemorph_core.bundle import open_bundle
    from facemorph_core.bundle.find import find_model
    from facemorph_core.evaluation.reconstructions import score
    from facemorph_core.evaluation.report import Evaluation
    from facemorph_core.shards.rows import spread
    from facemorph_core.shards.shard import Shard

    opened = Shard.open(shard)
    bundle = open_bundle(find_model(model))
    _check_fit(bundle, opened)
    everyone = opened.rows(split)
    if len(everyone) == 0:
        raise ShardError(
            f"{shard} has no faces in the split '{split}'", hint="choose another with --split"
        )
    rows = spread(everyone, max_faces)
    judges, unavailable = _judges(wanted, opened, everyone)
    with progress_bar() as progress:
        columns = score(
            opened,
            rows,
            lambda faces, landmarks: bundle.decode(bundle.encode(faces, landmarks, fit=fit)),
            judges,
            progress=progress,
        )
    other_photos = columns.get("identity.different_photo")
    if other_photos is not None and all(math.isnan(value) for value in other_photos):
        unavailable["identity.different_photo"] = "nobody has two photos in this split"
    return Evaluation(bundle, opened, split, rows, columns, unavailable, fit, by_group)


def _judges(
    wanted: Sequence[Metric], shard: Shard, rows: NDArray[np.int64]
) -> tuple[list[Judge], dict[str, str]]:
    """The judges that can work here, and why the others cannot."""
    found, unavailable = [], {}
    for metric in wanted:
        try:
            found.append(_judge(metric, shard, rows))
        except (WeightsUnavailable, MissingExtra) as error:
            unavailable[str(metric)] = f"{error}: {error.hint}" if error.hint else str(error)
    return found, unavailable


def _judge(metric: Metric, shard: Shard, rows: NDArray[np.int64]) -> Judge:
    from facemorph_core.evaluation import reconstructions as evaluation
    from facemorph_core.machine.cores import available_cores
    from facemorph_core.metrics.identity import FaceEmbedder, embedding_weights

    match metric:
        case Metric.psnr:
            return evaluation.psnr_judge
        case Metric.ssim:
            return evaluation.ssim_judge
        case Metric.identity:
            others = evaluation.other_photo(shard.people, rows.tolist())
            embedder = FaceEmbedder(embedding_weights(), workers=available_cores())
            return evaluation.identity_judge(shard, others, embedder)
        case Metric.lpips:
            return _lpips_judge()


def _lpips_judge() -> Judge:
    if find_spec("torch") is None:
        raise MissingExtra("train", needed_for="LPIPS")
    from facemorph_core.learning.nets.lpips import load_lpips, lpips

    network = load_lpips()
    return lambda seen: {"lpips": lpips(network, seen.originals, seen.made)}


def _check_fit(bundle: Bundle, shard: Shard) -> None:
    """Scores of another size or framing would mean something else."""
    if bundle.manifest.image_size != shard.size:
        raise ModelError(
            f"the model's images are {bundle.manifest.image_size} px, the shard's {shard.size} px"
        )
    ours, theirs = bundle.manifest.framing, shard.framing
    if not math.isclose(
        ours.eye_distance / ours.size, theirs["eye_distance"] / theirs["size"], rel_tol=1e-3
    ):
        raise ModelError(
            "the model and the shard frame faces differently, their scores would not compare",
            hint="prepare the shard with the version that the model was trained with",
        )


def _metrics(text: str) -> list[Metric]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in list(Metric)]
    if unknown or not names:
        raise typer.BadParameter(
            f"'{', '.join(unknown) or text}': there are {', '.join(Metric)}",
            param_hint="--metrics",
        )
    return [Metric(name) for name in dict.fromkeys(names)]


def _show(done: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    from facemorph_core.evaluation.report import INTERVAL

    table = Table(
        title=f"{done.bundle.manifest.name} on {len(done.rows)} faces of "
        f"{len(set(done.people))} people ({done.split})",
        caption=INTERVAL,
    )
    for heading in ("", "mean", "low", "high"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, interval in done.intervals.items():
        digits = 2 if name.startswith("psnr") else 3
        cells = (interval.mean, interval.low, interval.high)
        shown = ("-" if math.isnan(cell) else f"{cell:.{digits}f}" for cell in cells)
        table.add_row(name, *shown)
    console = Console()
    console.print(table)
    for name, reason in done.unavailable.items():
        console.print(f"{name} is not measured: {reason}", markup=False, highlight=False)
