"""Aligned faces on disk: the shard format, how it is made, and who owns which face.

``prepare`` is not imported here: reading a shard must not load OpenCV or dlib.
"""

from __future__ import annotations

from facemorph_core.disk.cache import cache_dir
from facemorph_core.shards.cache import shard_for
from facemorph_core.shards.partition import partition_rows, site_view
from facemorph_core.shards.shard import FORMAT_VERSION, IndexRow, Shard, write_shard, write_view
from facemorph_core.shards.summary import SiteSummary, draw_summary, summarise

__all__ = [
    "FORMAT_VERSION",
    "IndexRow",
    "Shard",
    "SiteSummary",
    "cache_dir",
    "draw_summary",
    "partition_rows",
    "shard_for",
    "site_view",
    "summarise",
    "write_shard",
    "write_view",
]
