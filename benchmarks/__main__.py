"""`python -m benchmarks`: the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from facemorph_core.cli.main import run_app

if TYPE_CHECKING:
    from benchmarks.ladder import Rung

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

MINUTES, QUICK_MINUTES = 20.0, 1.0
R = TypeVar("R")


class Scored(StrEnum):
    """Who is scored."""

    tune = "tune"
    val = "val"


@app.callback()
def bench() -> None:
    """Benchmarks whose figures can be made again with one command."""


@app.command()
def quality(
    data: Annotated[Path, typer.Option(help="Folder of CelebA, as it is published.")],
    root: Annotated[Path, typer.Option("--runs", help="Folder of run directories.")] = Path("runs"),
    name: Annotated[str, typer.Option(help="Name of the benchmark's folder in it.")] = "quality",
    minutes: Annotated[
        float | None,
        typer.Option(min=0.05, help="Training of a row. [default: 20, or 1 with --quick]"),
    ] = None,
    split: Annotated[
        Scored, typer.Option(help="tune: 200 people of the train part; val: for a table.")
    ] = Scored.tune,
    rows: Annotated[
        str | None, typer.Option(help="Names separated by commas. [default: all]")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="Also a finished model: bundle, run directory or hub://; repeatable."
        ),
    ] = None,
    fitted: Annotated[
        list[str] | None,
        typer.Option(help="Also a finished model with each code fitted to its face; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of training and of who is chosen.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A try: 600 photos to fit on, 100 to score.")
    ] = False,
    curve: Annotated[
        bool, typer.Option("--curve", help="Also PCA by numbers and framing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How good faces come back out of 128 numbers, from an untrained code to a VAE-GAN.

    A run that was interrupted goes on; a row that is there is not made again. Rows: dct-128,
    pca-128, shape24+pca104, textbook-vae, ae, vae, vae-fitted, vae-plain, vae-perceptual, vaegan,
    starter. A finished model must not have been trained on who is scored; the starter was not.

    Examples:
        python -m benchmarks quality --data ~/data/celeba --quick --rows dct-128,pca-128
        python -m benchmarks quality --data ~/data/celeba --split val --curve
    """
    from benchmarks.quality import Options, run_quality
    from benchmarks.table import to_json, to_markdown

    options = Options(
        data=data,
        out=root / name,
        rungs=_rungs(rows, models or [], fitted or [], seed=seed),
        split=split.value,
        minutes=minutes or (QUICK_MINUTES if quick else MINUTES),
        seed=seed,
        quick=quick,
        curve=curve,
    )
    report = run_quality(options)
    typer.echo(json.dumps(to_json(report), indent=1) if as_json else to_markdown(report), nl=False)


@app.command()
def faces(
    data: Annotated[Path, typer.Option(help="Folder of CelebA, as it is published.")],
    out: Annotated[Path, typer.Option(help="Folder of the new shard.")],
    seed: Annotated[int, typer.Option(min=0, help="Of who is chosen.")] = 0,
) -> None:
    """The shard of the `tune` split: CelebA's train part, 200 of its people put aside to score.

    It holds no pixels, but points to those of the prepared CelebA. A config trains on it with
    `data: {source: shard, path: OUT}`.
    """
    from benchmarks.faces import faces_for
    from facemorph_core.config.schema import DataConfig
    from facemorph_core.shards.cache import shard_for

    whole = shard_for(DataConfig(source="celeba", path=str(data)), seed=seed)
    view = faces_for(whole, "tune", quick=False, seed=seed, folder=out)
    train, scored = len(view.rows("train")), len(view.rows("val"))
    typer.echo(f"{out}: {train} photos to train on, {scored} of others to score")


class Part(StrEnum):
    """What the speed benchmark measures."""

    training = "training"
    race = "race"
    prepare = "prepare"
    round = "round"
    crowd = "crowd"


@app.command()
def speed(
    data: Annotated[Path, typer.Option(help="Folder of CelebA, as it is published.")],
    root: Annotated[Path, typer.Option("--runs", help="Folder of run directories.")] = Path("runs"),
    name: Annotated[str, typer.Option(help="Name of the benchmark's folder in it.")] = "speed",
    parts: Annotated[
        list[Part] | None, typer.Option("--part", help="Only this; repeatable. [default: all]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of training and of who is chosen.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A try: a short race, a small crowd.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How fast: training beside a textbook VAE, preparation, rounds beside central training.

    training: images a second and what a step is made of. race: seconds to the textbook VAE's
    quality (an hour). prepare: photos a second. round: a federated round beside the same images
    in one place. crowd: 1,000 sites, of which 10, 50 and 200 train in a round.

    Examples:
        python -m benchmarks speed --data ~/data/celeba --part training --part round
        python -m benchmarks speed --data ~/data/celeba --json
    """
    from benchmarks.speed.report import to_json, to_markdown
    from benchmarks.speed.run import run_speed

    wanted = [part.value for part in (parts or Part)]
    report = run_speed(data, root / name, parts=wanted, seed=seed, quick=quick)
    typer.echo(json.dumps(to_json(report), indent=1) if as_json else to_markdown(report), nl=False)


@app.command()
def federation(
    data: Annotated[Path, typer.Option(help="Folder of CelebA, as it is published.")],
    root: Annotated[Path, typer.Option("--runs", help="Folder of run directories.")] = Path("runs"),
    name: Annotated[str, typer.Option(help="Name of the benchmark's folder.")] = "federation",
    photos: Annotated[int, typer.Option(min=16, help="That are dealt out to the sites.")] = 3200,
    rounds: Annotated[int, typer.Option(min=1, help="Of the base.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each row.")] = 2,
    rows: Annotated[
        str | None, typer.Option(help="Names separated by commas. [default: all]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Federated beside central training: same images, same model, one factor changed at a time.

    A row that is there is not made again, and a run that was interrupted goes on. Rows: central,
    central-alike, base, dirichlet, unequal, fedprox, fedadam, epochs-5, ema, half, float16, int8.

    Examples:
        python -m benchmarks federation --data ~/data/celeba
        python -m benchmarks federation --data ~/data/celeba --rows central,base --seeds 1
    """
    from rich.console import Console

    from benchmarks.federation.report import charts, summaries, to_json, to_markdown
    from benchmarks.federation.rows import settings
    from benchmarks.federation.run import Plan, run_federation
    from facemorph_core.disk.records import write_atomic

    chosen = _named(rows, {row.name: row for row in settings()})
    out = (root / name).resolve()
    plan = Plan(photos, rounds, tuple(range(seeds)))
    results = run_federation(data, out, plan, chosen, watch=Console(stderr=True).print)
    for what, svg in charts(results, chosen).items():
        write_atomic(out / f"over-{what}.svg", svg.encode())
    found = summaries(results, chosen)
    typer.echo(
        json.dumps(to_json(found, results), indent=1) if as_json else to_markdown(found), nl=False
    )


@app.command()
def morphs(
    photos: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[A B]",
            exists=True,
            dir_okay=False,
            help="Two photos. [default: two portraits in the public domain, a megapixel each]",
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Of each program.")] = 5,
    facemorph: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON",
            exists=True,
            dir_okay=False,
            help="Of an environment with PyPI's facemorph, which then takes part.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """A morph from a cold start: seconds and memory of whole processes, ours and others'.

    Two photos become a file of 21 frames of 256 pixels: by facemorph-core, by the plain OpenCV
    program that tutorials teach, and by PyPI's facemorph where it is installed. They take turns.

    Examples:
        python -m benchmarks morphs
        python -m benchmarks morphs anna.jpg ben.jpg --facemorph peer/bin/python
    """
    if photos and len(photos) != 2:
        raise typer.BadParameter("a morph is measured on two photos", param_hint="A B")
    from rich.console import Console

    from benchmarks.morphs.report import to_json, to_markdown
    from benchmarks.morphs.run import run_morphs

    watch = Console(stderr=True).print
    report = run_morphs(photos or [], facemorph=facemorph, runs=runs, watch=watch)
    typer.echo(json.dumps(to_json(report), indent=1) if as_json else to_markdown(report), nl=False)


@app.command()
def learning(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, each with its curve.")],
    picture: Annotated[
        Path | None, typer.Option("--chart", help="Also draw the curves into this SVG.")
    ] = None,
) -> None:
    """The learning curves of finished runs, and what more images would bring.

    Examples:
        python -m benchmarks learning runs/starter-distortion
    """
    from benchmarks.learning import chart, learning_curve, markdown
    from facemorph_core.disk.output import written_whole

    curves = [learning_curve(run) for run in runs]
    if picture is not None:
        with written_whole(picture, force=True) as temporary:
            temporary.write_text(chart(curves), encoding="utf-8")
    typer.echo("\n".join(map(markdown, curves)), nl=False)


@app.command()
def detectors(
    data: Annotated[Path, typer.Option(help="Folder of CelebA, as it is published.")],
    wild: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A folder of other photos.")
    ] = None,
    people: Annotated[int, typer.Option(min=2, help="Of CelebA's val part, a photo each.")] = 300,
    made: Annotated[
        int, typer.Option(min=2, help="Of these, which are also turned and shrunk.")
    ] = 60,
    groups: Annotated[
        bool, typer.Option("--groups/--no-groups", help="Misses by group, on all photos of val.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Finding faces: dlib beside MediaPipe, on the same photos.

    Found, landmarks beside dlib's and beside themselves in a moved photo, faces where there is
    none, misses by group, seconds of a core.

    Examples:
        python -m benchmarks detectors --data ~/data/celeba --wild ~/data/wild
    """
    from benchmarks.detectors.report import to_json, to_markdown
    from benchmarks.detectors.run import run_detectors

    found = run_detectors(data, wild, people=people, made=made, groups=groups)
    typer.echo(json.dumps(to_json(found), indent=1) if as_json else to_markdown(found), nl=False)


@app.command()
def audit(
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes: fewer photos, fewer rounds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Attack what leaves a site, on public photos: the promises of docs/privacy.md.

    What one photo can do to a private round, what a guesser proves of its epsilon, what crafted
    weights get out of scoring, and what the weights of an ordinary round tell.

    Examples:
        python -m benchmarks audit --quick
    """
    from rich.console import Console

    from benchmarks.audit.report import to_json, to_markdown
    from benchmarks.audit.run import QUICK, WHOLE, run_audit

    found = run_audit(QUICK if quick else WHOLE, watch=Console(stderr=True).print)
    typer.echo(json.dumps(to_json(found), indent=1) if as_json else to_markdown(found), nl=False)


def _rungs(
    names: str | None, models: Sequence[str], fitted: Sequence[str] = (), *, seed: int
) -> list[Rung]:
    """Those asked for, in the ladder's order, then the finished models."""
    from benchmarks.ladder import ladder, released

    rungs = {rung.name: rung for rung in ladder(seed=seed)}
    finished: dict[str, Rung] = {}
    for rung in [*map(released, models), *(released(ref, fit=1) for ref in fitted)]:
        if rung.name in rungs | finished:
            raise typer.BadParameter(
                f"'{rung.name}' is a row already", param_hint="--model, --fitted"
            )
        finished[rung.name] = rung
    return [*_named(names, rungs), *finished.values()]


def _named(names: str | None, rows: Mapping[str, R]) -> list[R]:
    """The rows that are asked for, in their own order."""
    if names is None:
        return list(rows.values())
    wanted = [part.strip() for part in names.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in rows]
    if unknown or not wanted:
        raise typer.BadParameter(
            f"'{', '.join(unknown) or names}': there are {', '.join(rows)}", param_hint="--rows"
        )
    return [row for name, row in rows.items() if name in wanted]


if __name__ == "__main__":
    run_app(app, prog_name="python -m benchmarks")
