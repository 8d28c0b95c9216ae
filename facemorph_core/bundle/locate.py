"""From what a user calls a model to a bundle file on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from facemorph_core.errors import ModelError

SUFFIX = ".facemorph"
RUN_BUNDLE = f"model{SUFFIX}"
VARIABLE = "FACEMORPH_MODEL"
HUBS = ("hub://", "hub+insecure://")

_WAYS = (
    "`make demo` trains one, `--model hub://HOST:PORT/NAME@latest` fetches one, "
    f"`facemorph-core bundle RUN` makes one of a run; name it with --model or ${VARIABLE}"
)


def find_model(ref: str | Path | None = None) -> Path:
    """The bundle that ``ref`` means: a file, a run directory, or ``hub://host:port/name@version``.

    Without ``ref`` it is what $FACEMORPH_MODEL says, or else the newest in the cache.

    Raises:
        ModelError: there is none, with the ways to get one.
    """
    if ref is None:
        said = os.environ.get(VARIABLE)
        return find_model(said) if said else _newest_in_cache()
    if str(ref).startswith(HUBS):
        from facemorph_core import hub

        return hub.fetch(str(ref))
    path = Path(ref).expanduser()
    if path.is_dir():
        return _of_run(path)
    if not path.is_file():
        raise ModelError(f"there is no model {ref}", hint=_WAYS)
    return path


def models_dir() -> Path:
    """Where fetched bundles are kept."""
    from facemorph_core.shards.cache import cache_dir

    return cache_dir() / "models"


def _of_run(folder: Path) -> Path:
    bundle = folder / RUN_BUNDLE
    if bundle.is_file():
        return bundle
    if (folder / "checkpoints").is_dir():
        raise ModelError(
            f"the run {folder} has no {RUN_BUNDLE} yet", hint=f"facemorph-core bundle {folder}"
        )
    raise ModelError(f"{folder} is neither a bundle nor a run directory", hint=_WAYS)


def _newest_in_cache() -> Path:
    folder = models_dir()
    found = sorted(folder.rglob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ModelError("no model was named and there is none in the cache", hint=_WAYS)
    return found[-1]
