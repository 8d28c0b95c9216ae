"""The benchmarks were here once, and are `python -m benchmarks` now."""

from __future__ import annotations

import shlex
import sys

if __name__ == "__main__":
    now = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    sys.exit(f"the benchmarks have moved to a folder of their own: {now}")
