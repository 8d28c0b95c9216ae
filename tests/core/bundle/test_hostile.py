"""Bundles by somebody who wants more than to share a model: whatever they hold, checksums fit.

The law: a bundle is refused in one sentence, or it is a model that draws pictures. Nothing beside
it is opened, and no more memory is taken than stated.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="models are made here")

import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from facemorph_core.bundle import Bundle, open_bundle, verify
from facemorph_core.bundle.archive import pack
from facemorph_core.bundle.graph import CODE, IMAGES, GraphRefused, read_graph
from facemorph_core.bundle.manifest import CARD, DECODER, ENCODER, MANIFEST, TEST_VECTOR
from facemorph_core.bundle.message import MAX_STRUCTURE
from facemorph_core.bundle.operators import Faces, Fixed, Sizes, Stored
from facemorph_core.bundle.walk import _is_finite, walk
from facemorph_core.cli.main import main
from facemorph_core.config.schema import RunConfig
from facemorph_core.deploy.graphs import plain_graph
from facemorph_core.errors import BundleError
from facemorph_core.learning.models import AE, VAE, build_model
from facemorph_core.learning.release import write_bundle
from facemorph_core.learning.release.onnx import export_half
from facemorph_core.machine.inference import cpu_session
from tests.core.bundle.forge import (
    Watch,
    contents,
    forged,
    graph_of,
    mutated,
    mutated_bytes,
    mutated_within,
    sparse_constant,
)

SIZE = 32
KINDS: dict[str, dict[str, Any]] = {
    "ae": {"kind": "ae", "latent_dim": 8},
    "vae": {"kind": "vae", "latent_dim": 8},
    "vaegan": {"kind": "vaegan", "latent_dim": 5, "width": 16},
    "mean_shape": {"kind": "vae", "latent_dim": 32, "geometry": "mean_shape"},
    "float32": {"kind": "ae", "latent_dim": 8},
}
SECRET = b"the reader's own file: nobody else may see it. " * (3 * SIZE**2 // 47 + 1)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of every kind, all weights away from their start."""
    return {name: written(name, tmp_path_factory.mktemp(name) / "m.facemorph") for name in KINDS}


def written(name: str, out: Path) -> Path:
    config = RunConfig.model_validate(
        {"name": "tiny", "model": {"image_size": SIZE, "width": 8} | KINDS[name]}
    )
    model = build_model(config.model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        if name == "float32":
            model.encoder.head.weight[0] *= 1e7  # too large for half precision
    plain = config.model_dump(mode="json")
    return write_bundle(model, out, config=plain, training={"rounds": 1}, metrics={})


@pytest.fixture
def path(bundles: dict[str, Path]) -> Path:
    return bundles["vae"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's working directory, with something in it that is nobody's business."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "secret.bin").write_bytes(SECRET)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def watch(home: Path) -> Iterator[Watch]:
    watching = Watch(home)
    yield watching
    watching.close()


def used(path: Path) -> None:
    """All that a reader does with a bundle; whatever comes out is made of numbers."""
    bundle = open_bundle(path)
    assert bundle.card
    numbers = bundle.manifest.network_numbers
    drawn = bundle.textures(np.zeros((2, bundle.manifest.latent_dim), np.float32))
    assert np.isfinite(drawn).all()
    assert drawn.min() >= 0
    assert drawn.max() <= 255
    codes = bundle.run_network("encoder", np.zeros((2, 3, SIZE, SIZE), np.float32))
    assert codes.shape == (2, numbers)
    assert np.isfinite(codes).all()
    bundle.check_reference()


def refusal(path: Path) -> str | None:
    """The sentence with which a bundle is refused; None if it is not."""
    try:
        used(path)
        return None
    except BundleError as error:
        said = str(error)
    assert said.isprintable(), f"{said!r} would reach a terminal as it is"
    return said


def extended(model: onnx.ModelProto, *nodes: onnx.NodeProto, last: str) -> bytes:
    """A graph whose result becomes ``was``, and ``last`` the name of what takes its place."""
    name = model.graph.output[0].name
    model.graph.node[-1].output[0] = "was"
    model.graph.node.extend(nodes)
    for node in model.graph.node:
        for index, made in enumerate(node.output):
            node.output[index] = name if made == last else made
    return model.SerializeToString()


def constant(name: str, value: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))


# --- what an audit did -------------------------------------------------------------------------


def spying(path: Path, location: str) -> bytes:
    """A decoder that draws the file ``location`` of whoever runs it."""
    numbers = 3 * SIZE**2
    return extended(
        graph_of(path, DECODER),
        sparse_constant(location, numbers=numbers),
        helper.make_node("Cast", ["leak"], ["levels"], to=onnx.TensorProto.FLOAT),
        constant("shape", [1, 3, SIZE, SIZE]),
        helper.make_node("Reshape", ["levels", "shape"], ["picture"]),
        constant("half", np.float32(127.5)),
        helper.make_node("Div", ["picture", "half"], ["scaled"]),
        constant("one", np.float32(1)),
        helper.make_node("Sub", ["scaled", "one"], ["shown"]),
        constant("none", np.float32(0)),
        helper.make_node("Mul", ["was", "none"], ["black"]),
        helper.make_node("Add", ["black", "shown"], ["end"]),
        last="end",
    )


@pytest.mark.parametrize("location", ["secret.bin", "../home/secret.bin", "{home}/secret.bin"])
def test_a_bundle_never_shows_what_lies_in_the_readers_folder(
    path: Path, home: Path, watch: Watch, tmp_path: Path, location: str
) -> None:
    hostile = forged(path, tmp_path, decoder=spying(path, location.format(home=home)))
    numbers = open_bundle(path).manifest.latent_dim
    try:
        picture = open_bundle(hostile).decode(np.zeros((1, numbers), np.float32))[0]
    except BundleError as error:
        refused = str(error)
    else:
        assert picture.transpose(2, 0, 1).tobytes() != SECRET[: picture.size], "it shows the file"
        pytest.fail("a graph that reads files was run")
    assert "it sets AttributeProto.sparse_tensor, which none of ours does" in refused
    assert not watch.opened()


def test_a_watch_sees_what_native_code_opens(path: Path, home: Path, watch: Watch) -> None:
    """Without this the law below could not fail: the very graph, run without asking the bundle."""
    graph = spying(path, "secret.bin")
    try:
        made = cpu_session(graph).run(None, {"code": np.zeros((1, 8), np.float32)})[0]
    except Exception:  # noqa: BLE001 - a later runtime may refuse it itself
        pytest.skip("this ONNX Runtime opens no such file")
    levels = np.rint((made + 1) * 127.5).astype(np.uint8)
    assert levels.tobytes() == SECRET[: levels.size]
    assert watch.opened()
    assert not watch.opened()


def test_every_way_to_a_network_passes_the_same_gate(
    path: Path, watch: Watch, tmp_path: Path
) -> None:
    hostile = open_bundle(forged(path, tmp_path, decoder=spying(path, "secret.bin")))
    ways = (
        hostile.weights,
        hostile.check_reference,
        lambda: hostile.checked_graph(DECODER),
        lambda: hostile.run_network("decoder", np.zeros((1, 8), np.float32)),
        lambda: hostile.textures(np.zeros((1, 8), np.float32)),
        lambda: plain_graph(hostile, "decoder"),
    )
    for way in ways:
        with pytest.raises(BundleError, match=r"decoder\.onnx is refused"):
            way()
    assert not watch.opened()


# --- memory ------------------------------------------------------------------------------------


def no_session(*_: Any, **__: Any) -> Any:
    pytest.fail("a session was made of a graph that should have been refused")


HUGE = {
    "ConstantOfShape": [
        constant("sizes", [3 * 2**28]),
        helper.make_node("ConstantOfShape", ["sizes"], ["big"]),
    ],
    "Expand": [
        constant("sizes", [2**20, 3, SIZE, SIZE]),
        helper.make_node("Expand", ["images", "sizes"], ["big"]),
    ],
    "Tile": [
        constant("times", [1, 1, 2**10, 2**10]),
        helper.make_node("Tile", ["images", "times"], ["big"]),
    ],
    "Resize": [
        constant("sizes", [1, 3, 2**16, 2**16]),
        helper.make_node("Resize", ["images", "sizes"], ["big"]),
    ],
    "Pad": [
        constant("pads", [0, 0, 0, 0, 0, 0, 2**10, 2**10]),
        helper.make_node("Pad", ["images", "pads"], ["big"]),
    ],
    "Reshape": [
        constant("sizes", [-1, 3, 2**15, 2**15]),
        helper.make_node("Reshape", ["images", "sizes"], ["big"], allowzero=0),
    ],
    "Add": [  # every number with every other of its face
        constant("tall", [0, -1, 1]),
        helper.make_node("Reshape", ["images", "tall"], ["a"], allowzero=0),
        constant("wide", [0, 1, -1]),
        helper.make_node("Reshape", ["images", "wide"], ["b"], allowzero=0),
        helper.make_node("Add", ["a", "b"], ["big"]),
    ],
    "Gemm": [  # every face with every other
        constant("flat", [0, -1]),
        helper.make_node("Reshape", ["images", "flat"], ["a"], allowzero=0),
        constant("zero", np.zeros(1, np.float32)),
        helper.make_node("Gemm", ["a", "a", "zero"], ["big"], alpha=1.0, beta=1.0, transB=1),
    ],
}


@pytest.mark.parametrize("way", HUGE)
def test_no_operator_makes_something_large_of_something_small(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("facemorph_core.bundle.read.cpu_session", no_session)
    graph = graph_of(path, DECODER)
    graph.graph.node.extend(HUGE[way])
    hostile = open_bundle(forged(path, tmp_path, decoder=graph.SerializeToString()))
    with pytest.raises(BundleError, match=f"its '{way}'"):
        hostile.textures(np.zeros((1, 8), np.float32))


def test_many_results_that_fit_one_by_one_do_not_fit_together() -> None:
    """A gigabyte for a face: 340 Sigmoids on the pictures of a network for 512 pixels."""
    model = onnx.load_model_from_string(export_half(AE(512, 1, 8), "decoder", precision="float16"))
    sizes = {"half": "decoder", "image_size": 512, "latent_dim": 1}
    assert read_graph(model.SerializeToString(), **sizes).face_bytes < 2**27
    chain = ["images", *(f"s{number}" for number in range(340))]
    for before, after in itertools.pairwise(chain):
        model.graph.node.append(helper.make_node("Sigmoid", [before], [after]))
    with pytest.raises(GraphRefused, match="bytes for one face"):
        read_graph(model.SerializeToString(), **sizes)


def test_more_nodes_than_any_network_of_ours_are_refused(path: Path, tmp_path: Path) -> None:
    chain = ["was", *(f"s{number}" for number in range(600))]
    nodes = [helper.make_node("Sigmoid", [a], [b]) for a, b in itertools.pairwise(chain)]
    data = extended(graph_of(path, DECODER), *nodes, last=chain[-1])
    assert "nodes, more than" in str(refusal(forged(path, tmp_path, decoder=data)))


def test_weights_are_read_by_one_node_alone(path: Path, tmp_path: Path) -> None:
    """A hundred casts of a large weight would be a hundred copies, a hundred products as slow."""
    largest = "decoder.stages.0.conv_a.weight"
    for operator, inputs, attributes in (
        ("Cast", [largest], {"to": onnx.TensorProto.FLOAT}),
        ("Add", ["images", f"{largest}/float32"], {}),
    ):
        graph = graph_of(path, DECODER)
        graph.graph.node.append(helper.make_node(operator, inputs, ["again"], **attributes))
        said = refusal(forged(path, tmp_path, decoder=graph.SerializeToString()))
        assert "reads weights that another node has read" in str(said)


def test_a_million_empty_nodes_are_refused_before_they_are_parsed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bytes each in the file, a hundred and fifty as objects."""
    empty = b"\x0a\x00" * MAX_STRUCTURE
    size = len(empty)
    varint = bytes(
        (size >> shift & 127) | (128 if size >> shift > 127 else 0) for shift in (0, 7, 14, 21)
    )
    hostile = forged(
        path, tmp_path, decoder=contents(path)[DECODER] + b"\x3a" + varint.rstrip(b"\0") + empty
    )
    monkeypatch.setattr("facemorph_core.bundle.message.onnx", None)
    with pytest.raises(BundleError, match="are not weights"):
        open_bundle(hostile).checked_graph(DECODER)


# --- honest ones -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_passes(bundles: dict[str, Path], kind: str) -> None:
    assert refusal(bundles[kind]) is None
    for member in (ENCODER, DECODER):
        check_walk(contents(bundles[kind])[member], member, bundles[kind])


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize(
    ("size", "numbers", "width"), [(32, 1, 8), (64, 300, 24), (96, 104, 16), (256, 4, 8)]
)
@pytest.mark.parametrize("kind", [AE, VAE])
def test_every_size_of_network_passes(
    kind: type[AE | VAE], size: int, numbers: int, width: int, precision: Any
) -> None:
    model = kind(size, numbers, width)
    for half in ("encoder", "decoder"):
        data = export_half(model, half, precision=precision)  # type: ignore[arg-type]
        graph = read_graph(data, half=half, image_size=size, latent_dim=numbers)
        stated = (9 * width + 256) * size**2
        assert graph.face_bytes < stated
        assert len(data) - sum(len(t.raw_data) for t in graph.model.graph.initializer) < 2**15


def test_the_model_that_comes_with_the_package_passes() -> None:
    from facemorph_core.bundle.find import find_model

    assert verify(find_model()).weights()


def test_large_results_are_made_of_fewer_faces_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    whole = open_bundle(path).decode(codes)
    bundle = open_bundle(path)
    graph = read_graph(contents(path)[DECODER], half="decoder", image_size=SIZE, latent_dim=8)
    monkeypatch.setattr("facemorph_core.bundle.read.PASS_BYTES", 2 * graph.face_bytes)
    sizes: list[int] = []
    run = Bundle._run
    monkeypatch.setattr(Bundle, "_run", lambda self, m, v: sizes.append(len(v)) or run(self, m, v))
    assert np.abs(bundle.decode(codes).astype(int) - whole).max() <= 1
    assert sizes == [2, 2, 1]


# --- tensors and nodes -------------------------------------------------------------------------


def changed(model: onnx.ModelProto, what: str) -> None:
    """One thing that is wrong with a decoder."""
    graph, tensor = model.graph, model.graph.initializer[0]
    conv = next(node for node in graph.node if node.op_type == "Conv")
    match what:
        case "nan":
            tensor.raw_data = b"\xff\x7f" + tensor.raw_data[2:]
        case "infinity":
            tensor.raw_data = b"\x00\x7c" + tensor.raw_data[2:]
        case "negative size":
            tensor.dims[0] *= -1
        case "no size":
            tensor.dims[0] = 0
        case "lying size":
            tensor.dims[0] += 1
        case "endless size":
            tensor.dims[:] = [2**62, 2**62]
        case "text":
            tensor.data_type = onnx.TensorProto.STRING
        case "numbers elsewhere":
            tensor.ClearField("raw_data")
            tensor.float_data.extend([0.0] * 8)
        case "weight twice":
            graph.initializer.add().CopyFrom(tensor)
        case "result twice":
            graph.node.append(next(node for node in graph.node if node.op_type == "Sigmoid"))
        case "cycle":
            conv.input[0] = graph.node[-2].output[0]
        case "nothing":
            conv.input[0] = "nothing"
        case "optional":
            conv.input[2] = ""
        case "attribute twice":
            conv.attribute.add().CopyFrom(conv.attribute[0])
        case "attribute missing":
            del conv.attribute[0]
        case "attribute of two kinds":
            conv.attribute[0].f = 1.0
        case "attribute of another kind":
            at = next(node for node in graph.node if node.op_type == "Gemm").attribute[0]
            at.CopyFrom(helper.make_attribute(at.name, 1))
        case "notes":
            model.metadata_props.add(key="ort_config", value="{}")
        case "escape":
            conv.name = "\x1b[2J"
        case "another letter":
            conv.op_type = "Cоnv"  # noqa: RUF001 - that is the point
        case "future opset":
            model.opset_import[0].version = 99
        case "two opsets":
            model.opset_import.add(version=18)
        case "fixed batch":
            graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nan", "not a number"),
        ("infinity", "not a number"),
        ("negative size", "of another kind"),
        ("no size", "of another kind"),
        ("lying size", "not the size that it states"),
        ("endless size", "not the size that it states"),
        ("text", "of another kind"),
        ("numbers elsewhere", "it sets TensorProto.float_data"),
        ("weight twice", "made twice"),
        ("result twice", "made twice"),
        ("cycle", "reads what is not there"),
        ("nothing", "reads what is not there"),
        ("optional", "reads what is not there"),
        ("attribute twice", "attribute twice"),
        ("attribute missing", "other attributes than ours"),
        ("attribute of two kinds", "not of one kind"),
        ("attribute of another kind", "another alpha than ours"),
        ("notes", "it sets ModelProto.metadata_props"),
        ("escape", "is not plain text"),
        ("another letter", "is not plain text"),
        ("future opset", "not of opset 18"),
        ("two opsets", "not of opset 18"),
        ("fixed batch", "free number of images"),
    ],
)
def test_what_our_exporter_does_not_write_is_refused(
    path: Path, tmp_path: Path, what: str, said: str
) -> None:
    graph = graph_of(path, DECODER)
    changed(graph, what)
    found = refusal(forged(path, tmp_path, decoder=graph.SerializeToString()))
    assert said in str(found)


def test_numbers_are_told_from_what_is_none_as_numpy_tells_them() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    for each in halves:
        assert _is_finite(each[None]) == np.isfinite(each)
    ends = np.array([0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0xFF800000, 0xFF7FFFFF, 1], np.uint32)
    for number in ends.view(np.float32):
        assert _is_finite(number[None]) == np.isfinite(number)
    assert _is_finite(np.array([-(2**63), 2**63 - 1]))


def test_a_field_that_another_parser_may_know_is_refused(path: Path, tmp_path: Path) -> None:
    """Number 999, unknown to today's ONNX; and a second name, of which a parser takes the last."""
    good = contents(path)[DECODER]
    for tail in (b"\xba\x3e\x01x", b"\x12\x07pytorch"):
        said = refusal(forged(path, tmp_path, decoder=good + tail))
        assert "does not know, or one of them twice" in str(said)


def test_names_that_are_no_text_are_refused(path: Path, tmp_path: Path) -> None:
    """The parser gives them as bytes."""
    good = contents(path)[DECODER]
    for name in (b"decoder.head.bias", b"Sigmoid", b"images"):
        data = good.replace(name, b"\xff\xfe" + name[2:])
        assert "is not plain text" in str(refusal(forged(path, tmp_path, decoder=data)))


@pytest.mark.parametrize(("bound", "said"), [(1.0, None), (3.0, "beyond 1"), (-1.0, "reproduce")])
def test_pictures_are_pictures(path: Path, tmp_path: Path, bound: float, said: str | None) -> None:
    """The cut at the decoder's end is the graph's own: one that cuts elsewhere is found out."""
    graph = graph_of(path, DECODER)
    high = next(node for node in graph.graph.node if node.output[0] == "/Cast_1_output_0").input[0]
    node = next(node for node in graph.graph.node if node.output[0] == high)
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(int(bound))))
    bias = next(t for t in graph.graph.initializer if t.name == "decoder.to_pixels.bias")
    if said:
        bias.CopyFrom(numpy_helper.from_array(np.full(bias.dims, 60000, np.float16), bias.name))
    assert (said or "") in (
        refusal(forged(path, tmp_path, decoder=graph.SerializeToString())) or ""
    )


# --- the other members -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "card", [b"# caf\xe9", b"\xff\xfe#\x00", b"\xed\xa0\x80", b"x" * (2**20 + 1)]
)
def test_a_card_that_is_no_text_is_refused_in_a_sentence(
    path: Path, tmp_path: Path, card: bytes
) -> None:
    with pytest.raises(BundleError, match=r"its card is (not UTF-8|larger than)"):
        open_bundle(forged(path, tmp_path, card=card))


def manifest_with(path: Path, metrics: bytes) -> bytes:
    """The text of a manifest whose figures are ``metrics``, as they are."""
    text = contents(path)[MANIFEST]
    assert b'"metrics": {}' in text
    return text.replace(b'"metrics": {}', b'"metrics": ' + metrics)


@pytest.mark.parametrize(
    "metrics",
    [
        b'{"psnr": NaN}',
        b'{"psnr": 1e999}',
        b'{"psnr": [{"low": -1e999}]}',
        b'{"psnr": ' + b"9" * 5000 + b"}",
        b'{"psnr": ' + b"[" * 9999 + b"]" * 9999 + b"}",
        b'{"psnr": "\\ud800"}',
        b'{"caf\xe9": 1}',
        b'{"psnr": "' + b"x" * 2**20 + b'"}',
        b'{"psnr": 1}, "\\u001b[2J": 1, "x": {}',
    ],
)
def test_a_manifest_with_numbers_or_text_that_are_none_is_refused(
    path: Path, tmp_path: Path, metrics: bytes
) -> None:
    hostile = forged(path, tmp_path, manifest_text=manifest_with(path, metrics))
    assert "manifest" in str(refusal(hostile))


@pytest.mark.parametrize("arguments", [[], ["--card"], ["--json"]])
def test_inspecting_does_not_let_a_bundle_speak_to_the_terminal(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    said = "\x1b[2J\x9b31m\u202eevil\r"
    metrics = json.dumps({said: said, "list": [said]}).encode()
    changes = {
        "manifest": b'{"metrics": ' + metrics + b"}",
        "card": f"# caf\u00e9 {said}\n".encode(),
    }
    with pytest.raises(SystemExit) as info:
        main(["inspect", str(forged(path, tmp_path, **changes)), *arguments])
    assert info.value.code == 0
    shown = capsys.readouterr().out
    assert "evil" in shown
    assert not set(said) & set(shown) - set("[2J31mevil")
    assert ("caf\u00e9" in shown) == ("--card" in arguments)


def npy(header: bytes, data: bytes) -> bytes:
    text = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (10995116277760, 8), }",
        b"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 8), }",
        b"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 8), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 8), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 8L), }",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 8), }",
        b"(" * 5000,
        b"-" * 9000 + b"1",
        b"{" * 3000,
        b"",
    ],
)
def test_a_test_vector_is_read_by_its_letters(path: Path, tmp_path: Path, header: bytes) -> None:
    reference = open_bundle(path).reference
    vector = contents(path)[TEST_VECTOR]
    from facemorph_core.bundle.archive import unpack

    members: dict[str, Any] = dict(unpack(vector))
    members["codes.npy"] = npy(header, reference.codes.tobytes())
    with pytest.raises(BundleError, match="an array of its test vector is not float32"):
        verify(forged(path, tmp_path, testvector=pack(members)))


def test_a_test_vector_of_no_numbers_is_refused(path: Path, tmp_path: Path) -> None:
    from facemorph_core.bundle.reference import Reference, pack_reference

    good = open_bundle(path).reference
    for value in (np.nan, np.inf):
        bad = Reference(good.pixels, np.full_like(good.codes, value), good.images)
        with pytest.raises(BundleError, match="not all numbers"):
            verify(forged(path, tmp_path, testvector=pack_reference(bad)))


# --- anything ----------------------------------------------------------------------------------


def check_walk(data: bytes, member: str, path: Path) -> None:
    """What the walk says of a graph that passes is what the runtime makes, for one face or more."""
    manifest = open_bundle(path).manifest
    sizes = {"image_size": SIZE, "latent_dim": manifest.network_numbers}
    half = member.removesuffix(".onnx")
    try:
        model = read_graph(data, half=half, **sizes).model
    except GraphRefused:
        return
    source, shape = (
        (CODE, (sizes["latent_dim"],)) if half == "decoder" else (IMAGES, (3, SIZE, SIZE))
    )
    said = walk(model.graph, (source, Faces(shape)))
    told = {name: value for name, value in said.items() if not isinstance(value, Stored)}
    del model.graph.output[:]
    for name in told:
        model.graph.output.add(name=name)
    session = cpu_session(model.SerializeToString(), threads=1)
    for faces in (1, 3):
        made = session.run(None, {source: np.zeros((faces, *shape), np.float32)})
        for value, array in zip(told.values(), made, strict=True):
            match value:
                case Faces():
                    assert array.shape == (faces, *value.shape)
                case Fixed():
                    assert array.shape == value.shape
                case Sizes():
                    known = [faces if each is None else each for each in value.values]
                    assert array.tolist() == known


def check_one(
    bundles: dict[str, Path], seed: int, folder: Path, watch: Watch, home: Path, *, within: bool
) -> bool:
    """The law for one mutated bundle; whether it was a model all the same."""
    rng = random.Random(seed)
    path = bundles[rng.choice(list(KINDS))]
    secrets = ["secret.bin", f"../{home.name}/secret.bin", str(home / "secret.bin")]
    member = rng.choice((ENCODER, DECODER))
    graph = graph_of(path, member)
    data = mutated_within(graph, rng) if within else mutated(graph, rng, secrets)
    hostile = forged(path, folder, **{member.removesuffix(".onnx"): data})
    sound = refusal(hostile) is None
    check_walk(data, member, path)
    assert not watch.opened(), f"seed {seed} opened a file"
    return sound


@settings(max_examples=100)
@given(seed=st.integers(0, 2**63), within=st.booleans())
def test_a_mutated_graph_is_refused_or_draws_and_opens_nothing(
    bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, seed: int, within: bool
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "secret.bin").write_bytes(SECRET)
    before, watch = Path.cwd(), Watch(home)
    os.chdir(home)
    watch.opened()
    try:
        check_one(bundles, seed, home.parent, watch, home, within=within)
    finally:
        os.chdir(before)
        watch.close()


@settings(max_examples=60)
@given(seed=st.integers(0, 2**63))
def test_mutated_bytes_anywhere_are_refused_or_draw(
    bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = random.Random(seed)
    path = bundles[rng.choice(list(KINDS))]
    members = contents(path)
    name = rng.choice((ENCODER, DECODER, CARD, TEST_VECTOR, MANIFEST))
    key = "manifest_text" if name == MANIFEST else name.partition(".")[0]
    data = mutated_bytes(members[name], rng)
    refusal(forged(path, tmp_path_factory.getbasetemp(), **{key: data}))
