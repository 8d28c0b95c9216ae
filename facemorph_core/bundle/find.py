"""From what a user calls a model to a bundle file on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from facemorph_core.errors import ModelError
from facemorph_core.machine.progress import Progress

SUFFIX = ".facemorph"
RUN_BUNDLE = f"model{SUFFIX}"
VARIABLE = "FACEMORPH_MODEL"
STARTER = "starter"
"""What the model that comes with this package is called."""
HUBS = ("hub://", "hub+insecure://")

_ASSETS = Path(__file__).parent.parent / "assets"

_WAYS = (
    f"`{STARTER}` is the one that comes with this package, `make demo` trains one, "
    "`--model hub://HOST:PORT/NAME@latest` fetches one, "
    f"`facemorph-core bundle RUN` makes one of a run; name it with --model or ${VARIABLE}"
)


def find_model(ref: str | Path | None = None) -> Path:
    """The bundle that ``ref`` means: a file, a run directory, ``hub://host:port/name@version``.

    "starter" is the one that comes with this package (a file of that name is "./starter"). It is
    also what is meant without ``ref``, unless $FACEMORPH_MODEL names another.

    Raises:
        ModelError: there is none, with the ways to get one.
    """
    if ref is None:
        ref = os.environ.get(VARIABLE) or STARTER
    if ref == STARTER:
        return _ASSETS / f"{STARTER}{SUFFIX}"
    if str(ref).startswith(HUBS):
        return fetch_model(str(ref))
    path = Path(ref).expanduser()
    if path.is_dir():
        return _of_run(path)
    if not path.is_file():
        raise ModelError(f"there is no model {ref}", hint=_WAYS)
    return path


def fetch_model(
    ref: str,
    *,
    cache: Path | None = None,
    token: str | None = None,
    ca: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The bundle of ``hub://host:port/name@version``, as `facemorph_core.hub.fetch`, verified."""
    from facemorph_core import hub  # gRPC takes a moment, and most models are files
    from facemorph_core.bundle.read import open_bundle

    return hub.fetch(ref, open_bundle, cache=cache, token=token, ca=ca, progress=progress)


def is_file(ref: str) -> bool:
    """Whether ``ref`` names something on this machine's disk, there or not."""
    return ref not in ("", STARTER) and not ref.startswith(HUBS)


def _of_run(folder: Path) -> Path:
    bundle = folder / RUN_BUNDLE
    if bundle.is_file():
        return bundle
    if (folder / "checkpoints").is_dir():
        raise ModelError(
            f"the run {folder} has no {RUN_BUNDLE} yet", hint=f"facemorph-core bundle {folder}"
        )
    raise ModelError(f"{folder} is neither a bundle nor a run directory", hint=_WAYS)
