"""How fast a model runs on this machine, and what fewer bits cost.

Every way is timed in turns with the others, so that whatever else the machine does meets all of
them. A way decodes codes, or encodes and decodes pictures, `batch` at once; the whole way takes a
camera's picture of 640x480 with one face: find it, place landmarks, align, encode, decode.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ValidationError

from facemorph_core.alignment.align import align_face
from facemorph_core.alignment.landmarks import LandmarkDetector
from facemorph_core.alignment.photo import load_photo
from facemorph_core.bundle import Bundle, open_bundle
from facemorph_core.bundle.manifest import DECODER, ENCODER
from facemorph_core.bundle.read import from_model, to_model
from facemorph_core.deploy.export import HALVES
from facemorph_core.deploy.graphs import Half, plain_graph
from facemorph_core.deploy.quantise import calibration_faces, quantised
from facemorph_core.errors import BundleError
from facemorph_core.machine.cores import available_cores
from facemorph_core.machine.describe import peak_memory
from facemorph_core.machine.inference import cpu_session
from facemorph_core.machine.processes import worker_pool
from facemorph_core.metrics.psnr import psnr

if TYPE_CHECKING:
    from facemorph_core.config.schema import ModelConfig

__all__ = ["BATCHES", "Cost", "Engine", "Timing", "bench", "camera_picture", "engines", "timed"]

BATCHES = (1, 16)
PICTURE = (480, 640)
RUNS = 5
"""That count in a turn."""
LEAST_RUNS = 40

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run the two networks; both in their own units."""

    name: str
    encode: Network
    decode: Network
    source: Mapping[Half, bytes] | Path
    """Its graphs, or the bundle that torch reads."""

    def reconstruct(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """There and back."""
        return self.decode(self.encode(images))

    @property
    def megabytes(self) -> float:
        """Of the networks as they are stored."""
        if isinstance(self.source, Path):
            return 0.0
        return sum(map(len, self.source.values())) / 1e6


@dataclass(frozen=True, slots=True)
class Timing:
    """Frames a second of one way."""

    what: str
    engine: str
    batch: int
    median: float
    """Seconds for one batch."""
    p95: float

    @property
    def frames_per_second(self) -> float:
        return self.batch / self.median

    @property
    def slow_frames_per_second(self) -> float:
        """What 19 of 20 batches reach."""
        return self.batch / self.p95


@dataclass(frozen=True, slots=True)
class Cost:
    """What an engine takes, and what its numbers do to reconstructions of public faces."""

    engine: str
    megabytes: float
    """Of the networks as they are stored; 0 for torch, which reads the bundle."""
    memory_mib: float
    """Most that a process takes which loads them and decodes 16 faces."""
    psnr: float | None
    """dB, against the photos; mean over the faces. None where there are none."""
    lost: float | None
    """dB less than the first engine."""


@dataclass(slots=True)
class Measured:
    """All that `bench` finds."""

    timings: list[Timing] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)


def bench(
    bundle: Bundle,
    *,
    seconds: float = 4.0,
    int8: bool = True,
    picture: NDArray[np.uint8] | None = None,
) -> Measured:
    """Time every engine for about ``seconds`` a way; ``picture`` is a (480, 640, 3) with a face."""
    found = Measured()
    ways = engines(bundle, int8=int8)
    texture = bundle.manifest.network_numbers
    rng = np.random.default_rng(0)
    size = bundle.manifest.image_size
    for batch in BATCHES:
        codes = rng.standard_normal((batch, texture)).astype(np.float32)
        images = rng.uniform(-1, 1, (batch, 3, size, size)).astype(np.float32)
        decoding = {each.name: partial(each.decode, codes) for each in ways}
        there_and_back = {each.name: partial(each.reconstruct, images) for each in ways}
        for what, works in (("decode", decoding), ("encode + decode", there_and_back)):
            found.timings += timed(what, works, batch=batch, seconds=seconds)
    if picture is not None:
        found.timings += whole_way(bundle, ways, picture, seconds=seconds)
    scores = quality(bundle, ways) if int8 else {}
    first = next(iter(scores.values()), None)
    for each in ways:
        score = scores.get(each.name)
        lost = None if score is None or first is None else first - score
        found.costs.append(Cost(each.name, each.megabytes, _memory_of(each), score, lost))
    return found


def engines(bundle: Bundle, *, int8: bool = True) -> list[Engine]:
    """float32, float16 weights, int8, and torch where it is installed: CPU, all cores."""
    graphs = {half: plain_graph(bundle, half) for half in HALVES}
    made = [
        _of_graphs("float32", graphs),
        Engine(
            "float16 weights",
            lambda values: bundle.run_network("encoder", values),
            lambda values: bundle.run_network("decoder", values),
            {
                "encoder": bundle.checked_graph(ENCODER).SerializeToString(),
                "decoder": bundle.checked_graph(DECODER).SerializeToString(),
            },
        ),
    ]
    if int8:
        pixels, landmarks = calibration_faces(bundle.manifest.image_size)
        images = to_model(bundle.geometry.see(pixels, landmarks).pixels)
        codes = made[0].encode(images)
        inputs = {"encoder": images, "decoder": codes}
        small = {half: quantised(graphs[half], inputs[half]) for half in graphs}
        made.append(_of_graphs("int8", small))
    if importlib.util.find_spec("torch") is not None:
        made.append(_torch(bundle))
    return made


def timed(
    what: str, works: Mapping[str, Callable[[], object]], *, batch: int, seconds: float
) -> list[Timing]:
    """Turns of some runs, until every one has run for about ``seconds``.

    The first run of a turn finds the caches full of the others' numbers: it does not count.
    """
    for work in works.values():
        work()
    took: dict[str, list[float]] = {name: [] for name in works}
    began = perf_counter()
    while perf_counter() - began < seconds * len(works) or len(_shortest(took)) < LEAST_RUNS:
        for name, work in works.items():
            work()
            for _ in range(RUNS):
                start = perf_counter()
                work()
                took[name].append(perf_counter() - start)
    return [
        Timing(what, name, batch, statistics.median(each), statistics.quantiles(each, n=20)[-1])
        for name, each in took.items()
    ]


def quality(bundle: Bundle, ways: Sequence[Engine]) -> dict[str, float]:
    """PSNR of reconstructions of public faces that no int8 range was measured on."""
    from facemorph_core.config.schema import DataConfig
    from facemorph_core.shards.cache import shard_for

    shard = shard_for(DataConfig(source="orl"), seed=0)
    rows = shard.rows("val")
    pixels, landmarks = shard.images(rows), shard.landmarks(rows)
    seen = bundle.geometry.see(pixels, landmarks)
    scores = {}
    for engine in ways:
        drawn = engine.reconstruct(to_model(seen.pixels))
        shown = bundle.geometry.show(from_model(drawn), seen.shape)
        scores[engine.name] = float(psnr(pixels, shown).mean())
    return scores


def whole_way(
    bundle: Bundle, ways: Sequence[Engine], picture: NDArray[np.uint8], *, seconds: float
) -> list[Timing]:
    """From a camera's picture to a drawn face, with the face searched or followed."""
    from facemorph_core.alignment.landmarks import DlibDetector
    from facemorph_core.alignment.tracking import FaceTracker

    stream = _moving(picture)
    found = []
    for what, make in (("whole way, searched", DlibDetector), ("whole way, followed", FaceTracker)):
        works = {each.name: _Camera(bundle, each, make(), stream).next_frame for each in ways}
        found += timed(what, works, batch=1, seconds=seconds)
    return found


def camera_picture(photo: Path) -> NDArray[np.uint8]:
    """A photo as a camera's picture of PICTURE pixels, its border continued.

    Raises:
        UnreadablePhoto: as `load_photo`.
        NoFaceFound: there is no face to time the way of.
    """
    from facemorph_core.alignment.align import choose_face
    from facemorph_core.alignment.landmarks import DlibDetector

    pixels = load_photo(photo)
    scale = min(PICTURE[0] / pixels.shape[0], PICTURE[1] / pixels.shape[1])
    height, width = (max(1, round(scale * side)) for side in pixels.shape[:2])
    shrunk = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (PICTURE[0] - height) // 2, (PICTURE[1] - width) // 2
    around = (top, PICTURE[0] - height - top, left, PICTURE[1] - width - left)
    picture = np.asarray(cv2.copyMakeBorder(shrunk, *around, cv2.BORDER_REPLICATE), np.uint8)
    choose_face(picture, DlibDetector(), name=photo)
    return picture


class _Camera:
    """Frame after frame of one stream through one engine."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        detector: LandmarkDetector,
        stream: Sequence[NDArray[np.uint8]],
    ) -> None:
        self.bundle, self.engine, self.detector, self.stream = bundle, engine, detector, stream
        self.number = 0

    def next_frame(self) -> NDArray[np.uint8]:
        image = self.stream[self.number % len(self.stream)]
        self.number += 1
        face = self.detector.detect(image)[0]
        aligned = align_face(image, face.landmarks, size=self.bundle.manifest.image_size)
        seen = self.bundle.geometry.see(aligned.pixels[None], aligned.landmarks[None])
        drawn = self.engine.reconstruct(to_model(seen.pixels))
        return self.bundle.geometry.show(from_model(drawn), seen.shape)


def _moving(picture: NDArray[np.uint8], *, frames: int = 20) -> list[NDArray[np.uint8]]:
    """The picture as a stream: it sways by some pixels."""
    sway = (6 * np.sin(np.linspace(0, 2 * np.pi, frames, endpoint=False))).astype(int)
    return [np.ascontiguousarray(np.roll(picture, (dx, dx // 2), (1, 0))) for dx in sway]


def _shortest(took: Mapping[str, Sequence[float]]) -> Sequence[float]:
    return min(took.values(), key=len)


def _of_graphs(name: str, graphs: Mapping[Half, Any]) -> Engine:
    written = {half: graph.SerializeToString() for half, graph in graphs.items()}
    threads = available_cores()
    sessions = {half: cpu_session(graph, threads=threads) for half, graph in written.items()}

    def run(half: Half) -> Network:
        opened = sessions[half]
        source = opened.get_inputs()[0].name
        return lambda values: np.asarray(opened.run(None, {source: values})[0], np.float32)

    return Engine(name, run("encoder"), run("decoder"), written)


def _torch(bundle: Bundle) -> Engine:
    """The same weights in torch, one operator after the other."""
    import torch

    from facemorph_core.learning.federated import load_shared_weights
    from facemorph_core.learning.models import build_model

    weights = {name: torch.from_numpy(value) for name, value in bundle.weights().items()}
    model = build_model(_described(bundle, width=len(weights.get("encoder.stem.bias", ()))))
    load_shared_weights(model, weights)
    model.eval()

    def run(function: Callable[[Any], Any]) -> Network:
        def network(values: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                return np.asarray(function(torch.from_numpy(values)).numpy(), np.float32)

        return network

    return Engine("torch", run(model.code), run(model.decode), bundle.path)


def _described(bundle: Bundle, *, width: int) -> ModelConfig:
    """The model section of the bundle's config, which is no larger than its weights are."""
    from facemorph_core.config.schema import RunConfig

    stated = bundle.manifest
    try:
        model = RunConfig.model_validate(stated.config).model
    except ValidationError:
        raise BundleError(f"{bundle.path} does not hold the config of its run") from None
    found = (model.image_size, model.network_numbers, model.width)
    if found != (stated.image_size, stated.network_numbers, width):
        raise BundleError(f"{bundle.path} holds the config of another model")
    return model


def _memory_of(engine: Engine) -> float:
    """MiB that a process of its own takes at most."""
    with worker_pool(1) as pool:
        return pool.submit(_memory_alone, engine.source).result()


def _memory_alone(source: Mapping[Half, bytes] | Path) -> float:
    if isinstance(source, Path):
        bundle = open_bundle(source)
        engine, numbers = _torch(bundle), bundle.manifest.network_numbers
    else:
        graphs = {half: onnx.load_model_from_string(data) for half, data in source.items()}
        engine = _of_graphs("", graphs)
        numbers = graphs["decoder"].graph.input[0].type.tensor_type.shape.dim[1].dim_value
    engine.decode(np.zeros((BATCHES[-1], numbers), np.float32))
    return peak_memory()
