"""What a shell is told when Tab is pressed on a value."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

__all__ = ["complete_files"]


def complete_files(
    context: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of files: the shell knows them."""
    return [CompletionItem(incomplete, type="file")]
