"""Every way in passes the switches before it reaches what they switch off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facemorph_core.machine.quiet import SWITCHES
from simulations.run import APP, flower_environment

ASKING_FOR_IT = {name: {"0": "1", "1": "0"}[value] for name, value in SWITCHES.items()}
WAYS_IN = (
    *("facemorph_core", "facemorph_core.cli.main", "facemorph_core.machine.inference"),
    *("client.app", "server.app", "server.__main__"),
    *("simulations.__main__", "benchmarks.__main__"),
)
GUARD = """
import importlib, importlib.abc, os, sys
class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("onnxruntime", "ray"):
            import facemorph_core.machine.quiet as quiet
            assert {k: os.environ.get(k) for k in quiet.SWITCHES} == quiet.SWITCHES, name
sys.meta_path.insert(0, Guard())
importlib.import_module(sys.argv[1])
from facemorph_core.machine.quiet import SWITCHES
assert {name: os.environ.get(name) for name in SWITCHES} == SWITCHES
"""


def python(script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=APP,
        env=os.environ | {"PYTHONPATH": str(APP)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("module", WAYS_IN)
def test_what_phones_home_is_off_before_it_is_imported(module: str) -> None:
    done = python(GUARD, module, **ASKING_FOR_IT)
    assert done.returncode == 0, done.stderr


def test_processes_that_are_started_inherit_it(tmp_path: Path) -> None:
    assert SWITCHES.items() <= flower_environment(tmp_path).items()


def test_what_was_imported_before_us_is_named() -> None:
    late = "import onnxruntime; import facemorph_core"
    warned = python(late, ORT_DISABLE_TELEMETRY="1", HOME="/nonexistent")
    assert warned.stderr == ""
    script = f"import sys, types; sys.modules['onnxruntime'] = types.ModuleType('x'); {late}"
    said = python(script, ORT_DISABLE_TELEMETRY="0").stderr
    assert "onnxruntime was imported before facemorph_core" in said
    assert "set ORT_DISABLE_TELEMETRY=1 in the environment" in said


SESSION = """
import onnx
from facemorph_core.machine.inference import cpu_session
value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
relu = onnx.helper.make_node("Relu", ["x"], ["y"])
end = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
graph = onnx.helper.make_graph([relu], "relu", [value], [end])
made = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
print(cpu_session(made.SerializeToString()).run(None, {"x": [-1.0]}))
"""


def test_a_session_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    """Also where nobody can watch with `test_quiet`: a device id would lie there."""
    clean = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(APP)}
    command = [sys.executable, "-c", SESSION]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    assert "0." in done.stdout
    assert not list(tmp_path.rglob("*"))
