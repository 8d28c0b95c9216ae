"""`facemorph-core`: finds commands by their entry points and loads only the one that is called.

A command is an entry point of the group ``facemorph_core.commands`` whose object is a function
with typer annotations, a `typer.Typer`, or a `click.Command`; any installed wheel may add one.
Listing them imports none: the help line is the docstring's first line, read from the source.
"""

from __future__ import annotations

import ast
import difflib
import importlib.machinery
import importlib.util
import inspect
import logging
import re
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_type_hints

import click
from click.shell_completion import CompletionItem

from facemorph_core.cli import edge
from facemorph_core.cli.complete import complete_files
from facemorph_core.errors import FaceMorphError

if TYPE_CHECKING:
    import typer

GROUP = "facemorph_core.commands"
OWN = "facemorph-core"
COMPLETION = "_FACEMORPH_CORE_COMPLETE"
"""Environment variable in which a shell asks for completions."""

log = logging.getLogger(__name__)

HELP = """Morph faces, and train the models that do it across sites that keep their photos.

\b
Examples:
  facemorph-core morph anna.jpg ben.jpg
      anna-ben.gif beside the first photo; nothing is uploaded
  facemorph-core prepare photos/ --source folder --out shard/
      aligned faces for training, one folder of photos per person
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    given, debug = edge.take_debug(list(sys.argv[1:] if arguments is None else arguments))
    edge.show_warnings()
    edge.run(
        lambda: cli.main(given, prog_name=OWN, complete_var=COMPLETION, standalone_mode=False),
        debug=debug,
    )


class Commands(click.Group):
    """A group whose commands are entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_found())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _found().get(cmd_name)
        return None if entry is None else load(entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = _found()
        if args[0] not in known and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], known, n=1)
            advice = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
            raise click.UsageError(f"there is no command '{args[0]}'; {advice}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands and their first lines; none is imported."""
        return [
            CompletionItem(name, help=first_line(entry))
            for name, entry in sorted(_found().items())
            if name.startswith(incomplete)
        ] + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        added: list[tuple[str, str]] = []
        for name, entry in sorted(_found().items()):
            (own if _is_own(entry) else added).append((name, first_line(entry)))
        for title, rows in (("Commands", own), ("Added by plugins", added)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def load(entry: EntryPoint) -> click.Command:
    """Import the entry point and make a click command of what it names."""
    try:
        target = entry.load()
    except (ImportError, AttributeError) as error:
        raise FaceMorphError(
            f"the command '{entry.name}' cannot be loaded: {error}",
            hint=f"it comes with the package {entry.dist.name if entry.dist else '?'}: "
            "install it again or remove it",
        ) from error
    if isinstance(target, click.Command):
        return target
    import typer

    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False, rich_markup_mode=None)
        target.command(name=entry.name)(function)
    return command_of(target)


def command_of(app: typer.Typer) -> click.Command:
    """The click command of a typer app, with help that reads as it was written."""
    import typer

    typer.core.HAS_RICH = False  # else typer writes "\[default: ...]" for a rich that is off
    return _polished(typer.main.get_command(app))


def run_app(app: typer.Typer, *, prog_name: str) -> NoReturn:
    """Run a program of its own, such as ``python -m server``, and leave with its exit code."""
    arguments, debug = edge.take_debug(sys.argv[1:])
    edge.show_warnings()
    command = command_of(app)
    edge.run(
        lambda: command.main(arguments, prog_name=prog_name, standalone_mode=False), debug=debug
    )


def _polished(command: click.Command) -> click.Command:
    """Keep the lines of examples as written, and give arguments the help they were declared with.

    click 8.4 and newer reset the help that typer below 0.21 sets on arguments.
    """
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        _polished(child)
    if command.help:
        command.help = re.sub(r"(?m)^(Examples?:)$", "\b\n\\1", command.help.replace("\b\n", ""))
    function = inspect.unwrap(command.callback) if command.callback else None
    declared = get_type_hints(function, include_extras=True) if function else {}
    command.format_arguments = _nothing  # type: ignore[method-assign] # typer lists them itself
    for param in command.params:
        if isinstance(param.type, click.Path):
            # typer's own offers nothing
            param.type.shell_complete = complete_files  # type: ignore[method-assign,assignment]
        for note in getattr(declared.get(param.name or ""), "__metadata__", ()):
            if isinstance(param, click.Argument) and param.help is None:
                param.help = getattr(note, "help", None)
    return command


def _nothing(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write nothing."""


def first_line(entry: EntryPoint) -> str:
    """The first line of the command's docstring, or else of its module's; nothing is imported."""
    path = _source(entry.module)
    if path is None:
        return ""
    try:
        module = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    functions = (node for node in module.body if isinstance(node, ast.FunctionDef))
    named = [ast.get_docstring(node) for node in functions if node.name == entry.attr]
    text = next(filter(None, [*named, ast.get_docstring(module)]), "")
    line = re.sub(r"^`[^`]*`: *", "", text.strip().partition("\n")[0]).rstrip(".")
    return line[:1].upper() + line[1:]


def _found() -> dict[str, EntryPoint]:
    """Every command by name; our own cannot be replaced by a plugin's."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (_is_own(entry), entry.name)):
        if entry.name in found and found[entry.name].value != entry.value:
            log.warning("two packages offer the command '%s'", entry.name)
        found[entry.name] = entry
    return found


def _is_own(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == OWN


def _source(module: str) -> Path | None:
    """The file of ``module``, found without importing its packages."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{spec.name}.{part}"
        spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


@click.group(
    cls=Commands,
    help=HELP,
    invoke_without_command=True,
    epilog="COMMAND --help says more about each; --debug anywhere shows tracebacks.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name=OWN, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
