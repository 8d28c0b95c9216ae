"""How many cores this process may use: where it may run, and what its containers grant.

Docker's ``--cpus``, Kubernetes and systemd hand out processor time by a quota of control groups.
All cores stay visible there, and whoever starts a thread for each is stopped most of the time.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_cores", "cpu_quota", "granted", "own_groups"]

CONTROL_GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_cores() -> int:
    """Cores that this process may use, one at least."""
    visible = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        visible = len(os.sched_getaffinity(0))
    return granted(visible)


def granted(wanted: int) -> int:
    """So many of ``wanted`` cores or threads as the quota allows, one at least."""
    return max(1, math.floor(min(wanted, cpu_quota())))


def cpu_quota() -> float:
    """Cores' worth of time that the control groups grant; infinity where they grant all."""
    return min(_quotas(), default=math.inf)


def _quotas() -> Iterator[float]:
    """The quota of each group that has one; what is no number ("max") is none."""
    for folder in own_groups("cpu"):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text("ascii").split()
            yield int(quota) / int(period)
        with contextlib.suppress(OSError, ValueError):
            time = int((folder / "cpu.cfs_quota_us").read_text("ascii"))
            if time > 0:  # -1 is no limit
                yield time / int((folder / "cpu.cfs_period_us").read_text("ascii"))


def own_groups(controller: str) -> Iterator[Path]:
    """The groups of this process and those above them, of version 2 and of version 1.

    ``controller`` is what they share out: "cpu", "memory".

    In a container the path may be that of the machine outside, which is not there: the root is.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in OWN_GROUPS.read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            # "cpuacct,cpu" may be mounted as "cpu,cpuacct": as "cpu" it always is, in version 1.
            for name in {controllers, controller} if controllers else {""}:
                mounted = CONTROL_GROUPS / name
                own = mounted / path.lstrip("/")
                yield from (each for each in (own, *own.parents) if each.is_relative_to(mounted))
