"""The workflow calls the make targets there are, on every Python that the package names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
JOBS: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]


def commands(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_every_make_target_is_one_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    called = {line.split()[1] for job in JOBS for line in commands(job) if line.startswith("make ")}
    assert called <= targets
    assert {"check", "test", "test-runtime", "docs"} <= called


def test_the_suite_runs_on_the_oldest_python_and_on_newer_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = JOBS["suite"]["strategy"]["matrix"]["python"]
    assert f">={versions[0]}" == project["requires-python"]
    assert versions == ["3.11", "3.12", "3.13"]


def test_what_morphs_is_tested_on_every_system_and_every_python_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    matrix = JOBS["runtime"]["strategy"]["matrix"]
    assert set(matrix["system"]) == {"windows-latest", "macos-latest", "ubuntu-latest"}
    named = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    assert matrix["python"] == named


def test_what_morphs_is_tested_there_as_make_does() -> None:
    recipe = (ROOT / "Makefile").read_text().split("$(RUNTIME)/.installed: pyproject.toml")[1]
    made = re.findall(r"\$\(RUNTIME\)/bin/(?:python -m )?(pytest .*|facemorph-core [^>]*)", recipe)
    called = [line.removeprefix("python -m ").split("#")[0] for line in commands("runtime")]
    assert made
    assert [line.strip() for line in made] == [
        line.strip() for line in called if not line.startswith("pip ")
    ]


def test_what_the_tests_look_for_is_installed() -> None:
    installed = " ".join(commands("suite"))
    assert "strace" in installed
    assert "nginx-light" in installed
