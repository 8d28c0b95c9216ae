"""Which systems a test is for: the runtime's tests run on Linux, macOS and Windows."""

from __future__ import annotations

import os
import sys

import pytest

on_posix = pytest.mark.skipif(os.name != "posix", reason="modes, signals and shells of POSIX")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="names, devices and /proc of Linux")
