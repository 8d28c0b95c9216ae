"""Writes a bundle's networks as ONNX files for other runtimes, each held to what came before.

The files are compared with the bundle on its own test vector before they take their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from facemorph_core.bundle import Bundle
from facemorph_core.bundle.read import to_model
from facemorph_core.deploy.about import ABOUT, FRAME, described, write_about
from facemorph_core.deploy.graphs import Half, plain_graph
from facemorph_core.deploy.tensorrt import problems
from facemorph_core.disk.output import check_writable, output_error, written_whole
from facemorph_core.errors import OutputError
from facemorph_core.machine.inference import cpu_session

__all__ = ["HALVES", "Exported", "export"]

HALVES: tuple[Half, ...] = ("encoder", "decoder")
TOLERANCE = 1e-3
"""Largest difference from the bundle's own answer, in units of its largest number."""


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """One file."""

    path: Path
    half: Half
    model: onnx.ModelProto
    difference: float
    """From the bundle's own answer on its test vector, in units of the largest number."""


def export(
    bundle: Bundle,
    folder: Path,
    *,
    batch: int | None = None,
    for_tensorrt: bool = False,
    force: bool = False,
) -> list[Exported]:
    """Write encoder.onnx and decoder.onnx into ``folder``; a ``batch`` of None is dynamic.

    Beside them come about.md, which says how they are used, and frame.json.

    Raises:
        BundleError: the bundle's graphs are refused.
        OutputError: a file exists (without ``force``) or cannot be written, or the graph
            would not do the same, or TensorRT does not document all of it, or it is the bundle.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error
    for name in (*(f"{half}.onnx" for half in HALVES), ABOUT, FRAME):
        check_writable(folder / name, force=force, inputs=[bundle.path])
    made = [
        _exported(bundle, half, folder, batch=batch, for_tensorrt=for_tensorrt, force=force)
        for half in HALVES
    ]
    write_about(bundle, folder, force=force)
    return made


def _exported(
    bundle: Bundle,
    half: Half,
    folder: Path,
    *,
    batch: int | None,
    for_tensorrt: bool,
    force: bool,
) -> Exported:
    model = plain_graph(bundle, half, batch=batch)
    if for_tensorrt and (found := problems(model)):
        raise OutputError(f"TensorRT does not document all of the {half}: {'; '.join(found)}")
    difference = _difference(bundle, half, model, batch=batch)
    if not difference <= TOLERANCE:
        raise OutputError(
            f"the {half}'s graph gives other numbers than the bundle (by {difference:.2g})"
        )
    described(model, bundle)
    path = folder / f"{half}.onnx"
    with written_whole(path, force=force) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return Exported(path, half, model, difference)


def _difference(bundle: Bundle, half: Half, model: onnx.ModelProto, *, batch: int | None) -> float:
    reference = bundle.reference
    values = to_model(reference.pixels) if half == "encoder" else reference.codes
    if batch is not None:
        values = np.resize(values, (batch, *values.shape[1:]))
    values = values.astype(np.float32)
    session, source = cpu_session(model.SerializeToString()), model.graph.input[0].name
    found: NDArray[np.float32] = session.run(None, {source: values})[0]
    wanted = bundle.run_network(half, values)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
