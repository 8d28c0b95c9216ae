"""What of this checkout travels to where the server and the sites run: Flower's bundle."""

from __future__ import annotations

import tomllib
from pathlib import Path

from facemorph_core.errors import ConfigError, FederationError

__all__ = ["APP", "bundled", "inside_app", "require_travelling"]

APP = Path(__file__).resolve().parent.parent


def require_travelling(config_file: Path) -> None:
    """Refuse now a config that Flower would leave out of the bundle, and the app not find.

    Raises:
        ConfigError: with the rule's outcome.
    """
    name = inside_app(config_file)
    if name not in bundled(config_file):
        raise ConfigError(
            str(config_file),
            [
                "Flower leaves this file out of the bundle that the server and the sites run: its "
                "name, its folder or .gitignore keeps it there"
            ],
            hint=f"copy it to {APP / 'configs'} as a .yaml file",
        )


def bundled(*files: Path) -> set[str]:
    """What Flower puts into the bundle of the app's own files and these, by their paths in it."""
    from flwr.cli.build import get_filtered_fab_paths
    from flwr.cli.utils import filter_paths_for_publish

    wanted = ("pyproject.toml", ".gitignore", "client/**/*", "server/**/*", "configs/**/*")
    own = [path for pattern in wanted for path in APP.glob(pattern)]
    there = {p.relative_to(APP).as_posix(): p for p in [*own, *files] if p.is_file()}
    settings = tomllib.loads((APP / "pyproject.toml").read_text("utf-8"))
    try:
        return set(get_filtered_fab_paths(filter_paths_for_publish(there), settings))
    except ValueError as error:
        raise FederationError(f"Flower cannot bundle the app: {error}") from None


def inside_app(config_file: Path) -> str:
    """Config files travel inside the app, by their path in it."""
    try:
        return config_file.relative_to(APP).as_posix()
    except ValueError:
        raise ConfigError(
            str(config_file),
            [f"a config of a simulation lies in {APP / 'configs'}, so that it travels"],
            hint="copy it there, or use --set with one that is there",
        ) from None
