"""`python -m simulations`: run a simulated federation, or the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facemorph_core.cli.main import run_app
from facemorph_core.machine.printable import tell
from simulations.activation import extend_activation

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Federations simulated on this machine with a real `flwr run`.",
)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A file in configs/.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override, such as model.width=64.")
    ] = None,
    root: Annotated[Path, typer.Option("--runs", help="Folder of run directories.")] = Path("runs"),
    cpus: Annotated[int, typer.Option(min=1, help="CPUs that each site at work takes.")] = 1,
) -> None:
    """Train one config to its last round; go on with it if it was interrupted.

    Examples:
        python -m simulations run configs/default.yaml --set federation.rounds=3

        python -m simulations run configs/celeba.yaml --set data.path=~/data/celeba
    """
    from simulations.live import run_live

    path = run_live(config, set_ or [], root=root, cpus_per_site=cpus)
    tell(str(path))


@app.command()
def demo(
    root: Annotated[Path, typer.Option("--runs", help="Folder of run directories.")] = Path("runs"),
) -> None:
    """Four sites train together without sharing a photo; then two people are morphed."""
    from simulations.demo import run_demo

    run_demo(root)


@app.command(hidden=True)
def activation(venv: Annotated[Path, typer.Argument()]) -> None:
    """Let the activation of a virtual environment set Flower up for this checkout alone."""
    extend_activation(venv)


if __name__ == "__main__":
    run_app(app, prog_name="python -m simulations")
