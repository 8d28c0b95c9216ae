"""Files out of other people's packages, through the package clients that this machine has.

Their own settings say where packages come from: an index, a mirror, a folder, a proxy, a cache. No
index is named here. A package is known by its SHA-256, and nothing that it holds is executed.
"""

from facemorph_core.packages.archive import member
from facemorph_core.packages.npm import npm_archive
from facemorph_core.packages.pip import python_archive
from facemorph_core.packages.release import Release

__all__ = ["Release", "member", "npm_archive", "python_archive"]
