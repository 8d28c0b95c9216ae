"""`facemorph-core evaluate-morphs PAIRS`: how good morphs are, modes side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from facemorph_core.cli.morph_options import FitOption, ModelOption
from facemorph_core.machine.printable import tell
from facemorph_core.morphing.choices import Mode

if TYPE_CHECKING:
    from facemorph_core.evaluation.morphs.pairs import Pairs
    from facemorph_core.evaluation.morphs.study import Study
    from facemorph_core.evaluation.morphs.summary import Summary

REPORT, SCORES = "report.html", "scores.json"


def command(
    pairs: Annotated[
        Path,
        typer.Argument(
            help="A CSV file with the columns a,b or a,b,a_other,b_other, or the directory of a "
            "shard, from which pairs of different people are drawn."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Directory of the study; an unfinished one goes on.")
    ],
    model: ModelOption = None,
    modes: Annotated[
        str, typer.Option(help="Of full, latent and landmark, separated by commas.")
    ] = "full,latent,landmark",
    count: Annotated[int, typer.Option(min=1, help="Pairs drawn from a shard.")] = 100,
    split: Annotated[str, typer.Option(help="Of a shard: train, val or test.")] = "val",
    seed: Annotated[int, typer.Option(help="Which pairs are drawn.")] = 0,
    fit: FitOption = 0,
    strips: Annotated[int, typer.Option(min=0, help="Film strips in the report.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Say how good morphs are: ends, landmarks, sharpness, steps, likeness, realism.

    Writes report.html with film strips, curves and a table of all modes, and scores.json. Likeness
    is measured against another photo of each person: pictures of the same photo prove nothing.

    Examples:
      facemorph-core evaluate-morphs pairs.csv --out study/
      facemorph-core evaluate-morphs shard/ --split val --count 1000 --out study/
    """
    chosen = _modes(modes)

    from facemorph_core.bundle import open_bundle
    from facemorph_core.bundle.find import find_model
    from facemorph_core.disk.records import write_atomic
    from facemorph_core.evaluation.morphs.judges import judges_here
    from facemorph_core.evaluation.morphs.page import write_morph_report
    from facemorph_core.evaluation.morphs.study import run_study
    from facemorph_core.evaluation.morphs.summary import summarised
    from facemorph_core.machine.progress import progress_bar
    from facemorph_core.morphing.engine import Morpher
    from facemorph_core.morphing.film_strips import film_strips

    morpher = Morpher(open_bundle(find_model(model)), size=128, fit=fit)
    found, about = _found(pairs, split, count, seed)
    with progress_bar("pairs") as progress:
        judges = judges_here()
        study = run_study(found, morpher, chosen, judges, out, about=about, progress=progress)
    summary = summarised(study)
    looked_at = (found.case(n, morpher).faces for n in _spread(len(found), strips))
    shown = film_strips(looked_at, morpher, chosen)
    write_morph_report(out / REPORT, study, summary, shown, title="How good are the morphs?")
    scores = _scores(study, summary)
    write_atomic(out / SCORES, json.dumps(scores, indent=1).encode())
    if as_json:
        tell(json.dumps(scores, indent=1))
    else:
        tell(_markdown(study, summary))
        tell(f"\n{out / REPORT}")


def _modes(text: str) -> tuple[Mode, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or any(name not in get_args(Mode) for name in names):
        raise typer.BadParameter(f"'{text}': there are {', '.join(get_args(Mode))}")
    return tuple(mode for mode in get_args(Mode) if mode in names)


def _found(pairs: Path, split: str, count: int, seed: int) -> tuple[Pairs, str]:
    from facemorph_core.evaluation.morphs.pairs import FilePairs, ShardPairs, read_pairs
    from facemorph_core.shards.shard import Shard

    if not pairs.is_dir():
        listed = FilePairs(read_pairs(pairs))
        return listed, f"{len(listed)} pairs of {pairs.name}"
    drawn = ShardPairs(Shard.open(pairs), split, count, seed=seed)
    people = {name for number in range(len(drawn)) for name in drawn.names(number)}
    return drawn, f"{len(drawn)} pairs of {len(people)} people of the split '{split}', seed {seed}"


def _spread(total: int, count: int) -> list[int]:
    """At most ``count`` numbers below ``total``, evenly apart."""
    import numpy as np

    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int)).tolist()


def _scores(study: Study, summary: Summary) -> dict[str, Any]:
    from facemorph_core.metrics.bootstrap import intervals_json

    return study.facts | {
        "figures": {mode: intervals_json(own) for mode, own in summary.modes.items()},
        "less_landmark": {mode: intervals_json(own) for mode, own in summary.less.items()},
        "times_landmark": {mode: intervals_json(own) for mode, own in summary.times.items()},
        "bound": intervals_json(summary.bound),
    }


def _markdown(study: Study, summary: Summary) -> str:
    from facemorph_core.evaluation.morphs.page import cells, column_names

    names = column_names(study, summary)
    lines = [
        f"| {study.facts['about']} | {' | '.join(names)} |",
        f"| --- |{' ---: |' * len(names)}",
    ]
    for row in cells(study, summary):
        shown = [f"{cell['value']} {cell['range']}".strip() for cell in row["cells"]]
        shown += [""] * (len(names) - len(shown))
        lines.append(f"| {row['title']} | {' | '.join(shown)} |")
    lines += [f"{name} is not measured: {why}" for name, why in study.facts["not_measured"].items()]
    return "\n".join(lines)
