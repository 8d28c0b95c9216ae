"""`facemorph-core completion SHELL`: commands, options and values at the press of Tab."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Shell = Literal["bash", "zsh", "fish"]


def command(shell: Annotated[Shell, typer.Argument(help="Which shell reads it.")]) -> None:
    """Print what makes a shell complete our commands.

    Examples:
      facemorph-core completion bash >> ~/.bashrc
          from the next shell on, Tab completes commands, options and values
      facemorph-core completion fish > ~/.config/fish/completions/facemorph-core.fish
    """
    from click.shell_completion import get_completion_class

    from facemorph_core.cli.main import COMPLETION, OWN, cli

    found = get_completion_class(shell)
    assert found is not None
    typer.echo(found(cli, {}, OWN, COMPLETION).source())
