"""The identity loss: laws of a distance, and its net beside a slow reading of the graph."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.torch import save_file

from facemorph_core.alignment.align import align_photo
from facemorph_core.alignment.frame import eye_centres, mean_shape
from facemorph_core.errors import WeightsUnavailable
from facemorph_core.learning.losses.identity import IdentityDistance, MobileFaceNet, cut
from facemorph_core.learning.weights import find
from facemorph_core.learning.weights.convert import from_tfjs
from tests.core.faces import GRACE_HOPPER, astronaut

# Of `canonical(nodes)` for the modelTopology of models/mobilefacenet.json in human-models 3.0.4.
GRAPH_SHA256 = "5ef8b233119be4049538b5a9a24409cf88d74818d30e35412759f0012649618a"

ROOT = "MobileFaceNet/"
BODY = ROOT + "MobileFaceNet/"
# number in the name, blocks, channels inside, channels out, stride of the first
STAGES = ((2, 5, 128, 64, 2), (3, 1, 256, 128, 2), (4, 6, 256, 128, 1), (5, 1, 512, 128, 2))
STAGES += ((6, 2, 256, 128, 1),)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the published graph, and what it computes -----------------------------------------------


class Graph:
    """The nodes of models/mobilefacenet.json as published, and the shapes of its numbers."""

    def __init__(self) -> None:
        self.nodes: list[dict] = []
        self.shapes: dict[str, list[int]] = {}
        self.last = self.add("Placeholder", "img_inputs")
        self.conv(BODY + "Conv2d_0", (3, 3, 3, 64), stride=2, bends=True)
        self.depthwise(BODY + "SeparableConv2d", (3, 3, 64, 1))
        self.conv(BODY + "Conv", (1, 1, 64, 64))
        channels = 64
        for stage, count, inside, outputs, stride in STAGES:
            for number in range(count):
                scope = f"{BODY}Conv2d_{stage}_InvResBlock_{number}"
                self.block(scope, channels, inside, outputs, stride=1 if number else stride)
                channels = outputs
        self.conv(BODY + "Conv2d_7", (1, 1, 128, 512), bends=True)
        self.depthwise(ROOT + "Logits/SeparableConv2d", (7, 7, 512, 1), bends=False)
        self.conv(ROOT + "Logits/Conv", (1, 1, 512, 512), padding="VALID")
        self.conv(ROOT + "Logits/LinearConv1x1", (1, 1, 512, 192))
        self.finish()

    def add(self, op: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append({"op": op, "name": name, "input": list(inputs), **attributes})
        return name

    def block(self, scope: str, inputs: int, inside: int, outputs: int, *, stride: int) -> None:
        before = self.last
        self.conv(f"{scope}/Conv", (1, 1, inputs, inside), bends=True)
        self.depthwise(f"{scope}/SeparableConv2d", (3, 3, inside, 1), stride=stride)
        self.conv(f"{scope}/Conv_1", (1, 1, inside, outputs))
        if stride == 1:
            self.last = self.add("Add", f"{scope}/Add", self.last, before)

    def conv(
        self,
        scope: str,
        shape: tuple[int, ...],
        *,
        stride: int = 1,
        padding: str = "SAME",
        bends: bool = False,
    ) -> None:
        parts = (f"{scope}/Conv2D_weights", f"{scope}/Conv2D_bn_offset")
        self.shapes |= {parts[0]: list(shape), parts[1]: [shape[3]]}
        out = self.add(
            "_FusedConv2D",
            f"{scope}/BatchNorm/FusedBatchNorm",
            self.last,
            *parts,
            stride=stride,
            padding=padding,
            fused=["BiasAdd"],
        )
        self.last = out
        if bends:
            self.prelu(scope, shape[3], self.add("Relu", f"{scope}/Relu", out))

    def depthwise(
        self, scope: str, shape: tuple[int, ...], *, stride: int = 1, bends: bool = True
    ) -> None:
        parts = (f"{scope}/depthwise_weights", f"{scope}/depthwise_bn_offset")
        self.shapes |= {parts[0]: list(shape), parts[1]: [shape[2]]}
        self.last = self.add(
            "FusedDepthwiseConv2dNative",
            f"{scope}/depthwise",
            self.last,
            *parts,
            stride=stride,
            padding="SAME" if bends else "VALID",
            fused=["BiasAdd", "Relu"] if bends else ["BiasAdd"],
        )
        if bends:
            self.prelu(scope, shape[2], self.last)

    def prelu(self, scope: str, channels: int, positive: str) -> None:
        self.shapes[f"{scope}/mul"] = [channels]
        size = self.add("Abs", f"{scope}/Abs", self.last)
        difference = self.add("Sub", f"{scope}/sub", self.last, size)
        negative = self.add("Mul", f"{scope}/mul_1", difference, f"{scope}/mul")
        self.last = self.add("Add", f"{scope}/add", positive, negative)

    def finish(self) -> None:
        raw = self.add("Squeeze", ROOT + "Logits/SpatialSqueeze", self.last)
        square = self.add("Square", "embeddings/Square", raw)
        total = self.add("Sum", "embeddings/Sum", square, "embeddings/Sum/reduction_indices")
        least = self.add("Maximum", "embeddings/Maximum", total, "embeddings/Maximum/y")
        root = self.add("Rsqrt", "embeddings/Rsqrt", least)
        self.add("Mul", "embeddings", raw, root)


def canonical(nodes: list[dict]) -> bytes:
    """Nodes without their order or that of their keys."""
    return json.dumps(sorted(nodes, key=lambda node: node["name"]), sort_keys=True).encode()


def evaluated(graph: Graph, numbers: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """The graph node by node in float64, (B, 112, 112, 3) -> (B, 192); slow and obvious.

    Two repairs of what its conversion broke: a difference is taken the other way round, and the
    ReLU that was fused into a depthwise convolution reaches only the sum that it belongs to.
    """
    values = {"img_inputs": images.astype(np.float64), **numbers}
    values |= {"embeddings/Sum/reduction_indices": np.array(1), "embeddings/Maximum/y": 1e-10}
    for node in graph.nodes[1:]:
        one, *others = (values[name] for name in node["input"])
        match node["op"]:
            case "_FusedConv2D" | "FusedDepthwiseConv2dNative":
                found = convolved(one, *others, stride=node["stride"], padding=node["padding"])
            case "Relu":
                found = np.maximum(one, 0)
            case "Abs":
                found = np.abs(one)
            case "Sub":
                found = others[0] - one  # the first repair
            case "Mul":
                found = one * others[0]
            case "Add":
                is_fused = node["input"][0].endswith("/depthwise")
                found = (np.maximum(one, 0) if is_fused else one) + others[0]  # the second
            case "Squeeze":
                found = one[:, 0, 0]
            case "Square":
                found = one**2
            case "Sum":
                found = one.sum(axis=1, keepdims=True)
            case "Maximum":
                found = np.maximum(one, others[0])
            case "Rsqrt":
                found = 1 / np.sqrt(one)
        values[node["name"]] = found
    return values["embeddings"]


def convolved(
    images: np.ndarray, kernel: np.ndarray, bias: np.ndarray, *, stride: int, padding: str
) -> np.ndarray:
    """TensorFlow's convolution; a kernel HWC1 over C > 1 channels is depthwise, else HWIO."""
    side = kernel.shape[0]
    if padding == "SAME":
        total = max((-(-images.shape[1] // stride) - 1) * stride + side - images.shape[1], 0)
        around = (total // 2, total - total // 2)
        images = np.pad(images, ((0, 0), around, around, (0, 0)))
    windows = sliding_window_view(images, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    if kernel.shape[3] == 1:
        return np.einsum("byxcij,ijc->byxc", windows, kernel[..., 0]) + bias
    return np.einsum("byxcij,ijco->byxo", windows, kernel, optimize=True) + bias


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph()


@pytest.fixture(scope="module")
def numbers(graph) -> dict[str, np.ndarray]:
    """Random numbers under the graph's names, of sizes that keep a signal alive."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in graph.shapes.items():
        taps = np.prod(shape[:2] if name.endswith("depthwise_weights") else shape[:3])
        scale = taps**-0.5 if len(shape) == 4 else 0.2
        found[name] = (scale * rng.standard_normal(shape)).astype(np.float32)
    return found


def as_files(numbers: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """The JSON and the raw file of a graph model, with a scalar of another type among them."""
    numbers = numbers | {"embeddings/Sum/reduction_indices": np.array(1, np.int32)}
    entries = [
        {"name": name, "shape": list(a.shape), "dtype": str(a.dtype)} for name, a in numbers.items()
    ]
    manifest = {"weightsManifest": [{"paths": ["toy.bin"], "weights": entries}]}
    return json.dumps(manifest).encode(), b"".join(a.tobytes() for a in numbers.values())


@pytest.fixture(scope="module")
def made_up(numbers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the net's names and shapes with random numbers in it."""
    path = tmp_path_factory.mktemp("net") / "mobilefacenet.safetensors"
    arrays = from_tfjs(*as_files(numbers))
    save_file({name: torch.from_numpy(a) for name, a in arrays.items()}, path)
    return path


@pytest.fixture(scope="module")
def distance(made_up) -> IdentityDistance:
    return IdentityDistance(made_up)


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(2, 3, 3, 128, 128, generator=seeded(1)) * 2 - 1
    return images[0], images[1]


def test_the_graph_read_here_is_the_published_one(graph):
    assert hashlib.sha256(canonical(graph.nodes)).hexdigest() == GRAPH_SHA256


def test_the_net_computes_what_the_graph_says(graph, numbers, distance):
    images = torch.rand(2, 3, 112, 112, generator=seeded(0)) * 2 - 1
    slow = evaluated(graph, numbers, images.permute(0, 2, 3, 1).numpy())
    with torch.no_grad():
        fast = torch.nn.functional.normalize(distance.net(images), dim=1)
    np.testing.assert_allclose(fast.numpy(), slow, atol=2e-5)
    assert np.abs(slow[0] - slow[1]).max() > 1e-3


def test_a_file_of_another_length_or_layout_is_refused(numbers):
    listing, raw = as_files(numbers)
    with pytest.raises(WeightsUnavailable, match="its file has"):
        from_tfjs(listing, raw + b"\0\0\0\0")
    for other in (raw[:-4], b""):
        with pytest.raises(WeightsUnavailable, match="not laid out as expected"):
            from_tfjs(listing, other)
    for other in (b"{}", b"[1]", b"no JSON", b'{"weightsManifest": [{"weights": [{}]}]}'):
        with pytest.raises(WeightsUnavailable, match="not laid out as expected"):
            from_tfjs(other, raw)


# --- the cut ---------------------------------------------------------------------------------


def test_the_cut_holds_the_eyes_where_arcface_has_them():
    eyes = eye_centres(mean_shape())
    seen = cut()[[51, 51], [38, 73]]  # row, column of the template's eyes
    np.testing.assert_allclose(seen, eyes, atol=1.5)
    assert cut().min() > 0
    assert cut().max() < 127


def test_the_cut_of_a_larger_frame_shows_the_same():
    np.testing.assert_allclose(cut(256), 2 * cut(128) + 0.5)


def test_places_of_the_cut_itself_change_nothing(distance, pair):
    places = torch.from_numpy(cut(128)).float()[None]
    torch.testing.assert_close(distance(*pair, places), distance(*pair), rtol=1e-4, atol=1e-5)
    elsewhere = places + 5
    assert (distance(*pair, elsewhere) - distance(*pair)).abs().max() > 1e-4


@pytest.fixture(scope="module")
def portraits() -> tuple[torch.Tensor, torch.Tensor]:
    """Eileen Collins and Grace Hopper (public domain) in the canonical frame."""
    faces = [align_photo(photo).pixels for photo in (astronaut(), GRACE_HOPPER)]
    return tuple(torch.from_numpy(face).permute(2, 0, 1) / 127.5 - 1 for face in faces)


# --- the laws --------------------------------------------------------------------------------


def test_equal_images_are_at_distance_zero_and_the_order_does_not_matter(distance, pair):
    torch.testing.assert_close(distance(pair[0], pair[0]), torch.zeros(3), rtol=0, atol=1e-6)
    apart = distance(*pair)
    torch.testing.assert_close(distance(pair[1], pair[0]), apart)
    assert ((apart > 1e-3) & (apart <= 2)).all()


def test_every_image_is_judged_by_itself(distance, pair):
    together = distance(*pair)
    turned = distance(pair[0].flip(0), pair[1].flip(0)).flip(0)
    torch.testing.assert_close(turned, together, rtol=1e-4, atol=1e-6)
    alone = distance(pair[0][1:2], pair[1][1:2])
    torch.testing.assert_close(alone, together[1:2], rtol=1e-4, atol=1e-6)


def test_gradients_reach_what_was_made_and_nothing_else(distance, pair):
    made, real = (images.clone().requires_grad_() for images in pair)
    distance(made, real).sum().backward()
    assert real.grad is None
    assert (made.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
    assert not any(p.requires_grad for p in distance.parameters())


def test_the_gradient_is_that_of_the_distance(distance, pair):
    made, real = pair[0].clone().requires_grad_(), pair[1]
    (found,) = torch.autograd.grad(distance(made, real).sum(), made)
    length = found.norm()
    step = 0.05 * found / length
    with torch.no_grad():
        ahead, behind = distance(made + step, real), distance(made - step, real)
    torch.testing.assert_close((ahead - behind).sum() / 0.1, length, rtol=0.05, atol=0)


def test_it_runs_under_bfloat16_autocast(distance, pair):
    exact = distance(*pair)
    with torch.autocast("cpu", torch.bfloat16):
        rough = distance(*pair)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.01)


def test_a_file_of_another_net_is_refused(tmp_path):
    state = MobileFaceNet().state_dict()
    del state["Conv2d_7.slope"]
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(RuntimeError, match=r"Conv2d_7\.slope"):
        IdentityDistance(tmp_path / "other.safetensors")


@pytest.mark.weights
def test_the_real_net_knows_a_face_in_another_light_from_another_face(portraits):
    try:
        distance = IdentityDistance(find("mobilefacenet"))
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    collins, hopper = portraits
    changed = 0.6 * collins - 0.2
    with torch.no_grad():
        same, mirrored, other = distance(
            torch.stack([changed, collins.flip(2), hopper]), torch.stack([collins] * 3)
        )
    assert same < 0.1
    assert mirrored < 0.1
    assert other > 0.6
