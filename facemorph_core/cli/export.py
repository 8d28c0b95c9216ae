"""`facemorph-core export MODEL`: the networks as ONNX files for other runtimes."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from facemorph_core.machine.printable import tell


class Format(StrEnum):
    """Who will read the files."""

    onnx = "onnx"
    tensorrt = "tensorrt"


def command(
    model: Annotated[
        str,
        typer.Argument(help="Bundle, run directory, hub://HOST:PORT/NAME@VERSION, or starter."),
    ] = "starter",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the files.")] = Path("export"),
    kind: Annotated[
        Format, typer.Option("--format", help="tensorrt: also refuse what it does not document.")
    ] = Format.onnx,
    batch: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Faces at once. [default: any number]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write encoder.onnx and decoder.onnx: standard operators, float32, checked.

    about.md beside them says what they read and make, and how a face is aligned for them.
    Both are run on the bundle's test vector before they are written. For TensorRT the command that
    builds each engine is printed; it was not run here, for that needs an NVIDIA GPU.

    Examples:
      facemorph-core export starter --out export/
      facemorph-core export runs/celeba --format tensorrt --batch 1 --out jetson/
    """
    from facemorph_core.bundle import open_bundle
    from facemorph_core.bundle.find import find_model
    from facemorph_core.deploy.about import ABOUT
    from facemorph_core.deploy.export import export
    from facemorph_core.deploy.graphs import OPSET, operators
    from facemorph_core.deploy.tensorrt import trtexec

    bundle = open_bundle(find_model(model))
    is_tensorrt = kind is Format.tensorrt
    made = export(bundle, out, batch=batch, for_tensorrt=is_tensorrt, force=force)
    facts = [
        {
            "file": str(each.path),
            "opset": OPSET,
            "operators": operators(each.model),
            "difference": each.difference,
            **({"trtexec": trtexec(each.path, each.model)} if is_tensorrt else {}),
        }
        for each in made
    ]
    if as_json:
        tell(json.dumps(facts, indent=1))
        return
    for each in made:
        tell(str(each.path))
    tell(str(out / ABOUT))
    if is_tensorrt:
        tell("on the device, in this folder:", err=True)
        for each in made:
            tell(trtexec(each.path, each.model), err=True)
