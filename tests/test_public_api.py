"""What others may rely on: the names here change only after a release with a warning."""

from __future__ import annotations

import subprocess
import sys

import pytest

import facemorph_core

PUBLIC = {
    "FaceMorphError",
    "MorphBlend",
    "MorphSequence",
    "Morpher",
    "__version__",
    "average",
    "generate_morph_sequence",
    "morph",
    "open_bundle",
}


def test_the_public_names_are_these() -> None:
    assert set(facemorph_core.__all__) == PUBLIC
    assert set(dir(facemorph_core)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(facemorph_core, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'unmorph'"):
        facemorph_core.unmorph  # noqa: B018


def test_importing_the_package_costs_nothing() -> None:
    probe = "import sys; before = set(sys.modules); import facemorph_core; "
    probe += "print(*(set(sys.modules) - before))"
    loaded = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    ).stdout.split()
    for name in ("torch", "numpy", "onnxruntime", "onnx", "cv2", "dlib", "PIL", "pydantic"):
        assert name not in loaded
