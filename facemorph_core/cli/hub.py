"""List, describe or fetch the models of a hub; photos never go there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from facemorph_core.machine.printable import tell

command = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
)

Ca = Annotated[
    Path | None,
    typer.Option(help="Certificates to trust instead of the system's [$FACEMORPH_HUB_CA]."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="File with this hub's read token, or with lines HOST:PORT=TOKEN "
        "[$FACEMORPH_HUB_TOKEN or ..._TOKEN_FILE, in the second form]."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reference = Annotated[
    str, typer.Argument(metavar="REF", help="hub://HOST:PORT/NAME@latest, NAME@3 or NAME@3#SHA256.")
]


@command.callback()
def without_a_command(context: typer.Context) -> None:
    """Ask a model hub what it has, and fetch models from it."""
    if context.invoked_subcommand is None:
        tell(context.get_help())


@command.command("list")
def list_command(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="hub://HOST:PORT")],
    ca: Ca = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the models of a hub with their versions, each with its pinned reference.

    \b
    Examples:
      facemorph-core hub list hub://models.example.org:8765
      facemorph-core hub list hub+insecure://127.0.0.1:8765
          plain text, for a hub on this machine
    """  # noqa: D301 - \b is click's
    from facemorph_core import hub

    models = hub.list_models(address, ca=ca, token=_token(address, token_file))
    if as_json:
        tell(json.dumps([dataclasses.asdict(model) for model in models]))
        return
    if not models:
        tell("the hub has no models yet", err=True)
    width = max((len(f"{model.name}@{model.version}") for model in models), default=0)
    for model in models:
        state = "damaged, not served" if model.damaged else model.reference
        name = f"{model.name}@{model.version}"
        tell(f"{name:<{width}}  {model.size / 2**20:8.1f} MiB  {state}")


@command.command("describe")
def describe_command(ref: Reference, ca: Ca = None, token_file: TokenFile = None) -> None:
    """Show a model's manifest without fetching the model, as JSON.

    \b
    Examples:
      facemorph-core hub describe hub://models.example.org:8765/faces@latest
      facemorph-core hub describe hub://models.example.org:8765/faces@3 | jq .manifest.metrics
    """  # noqa: D301
    from facemorph_core import hub

    described = hub.describe(ref, ca=ca, token=_token(ref, token_file))
    tell(json.dumps(dataclasses.asdict(described), indent=1))


@command.command("fetch")
def fetch_command(ref: Reference, ca: Ca = None, token_file: TokenFile = None) -> None:
    """Fetch a model into the cache, verify it, and print where it lies.

    \b
    Examples:
      facemorph-core hub fetch hub://models.example.org:8765/faces
      facemorph-core morph anna.jpg ben.jpg --model hub://models.example.org:8765/faces@3
          morphing fetches by itself, once
      facemorph-core hub fetch hub://models.example.org:8765/faces@3#SHA256
          these bytes or none; `hub list` prints the reference
    """  # noqa: D301
    from facemorph_core import hub
    from facemorph_core.bundle.find import fetch_model
    from facemorph_core.machine.progress import BYTES, progress_bar

    with progress_bar(columns=BYTES, stays=False) as progress:
        path = fetch_model(ref, ca=ca, token=_token(ref, token_file), progress=progress)
    tell(f"these bytes: {hub.pinned(ref, path)}", err=True)
    tell(str(path))


def _token(ref: str, file: Path | None) -> str | None:
    """The token in ``file`` for the hub that ``ref`` names, a model's or the hub's own address."""
    if file is None:
        return None
    from facemorph_core.hub.reference import HubAddress
    from facemorph_core.hub.token import token_for

    return token_for(file, HubAddress.of(ref))
