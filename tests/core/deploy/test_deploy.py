"""Networks for other runtimes: the same numbers, only documented operators, and honest timings."""

from __future__ import annotations

import json
import shlex
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from facemorph_core.bundle import Bundle, open_bundle
from facemorph_core.bundle.find import find_model
from facemorph_core.bundle.read import to_model
from facemorph_core.cli.main import cli
from facemorph_core.deploy.export import HALVES, TOLERANCE, export
from facemorph_core.deploy.graphs import OPSET, operators, plain_graph
from facemorph_core.deploy.quantise import calibration_faces, quantised
from facemorph_core.deploy.speed import camera_picture, engines, timed
from facemorph_core.deploy.tensorrt import SUPPORTED, problems, trtexec
from facemorph_core.errors import BundleError, NoFaceFound, OutputError
from facemorph_core.machine.inference import cpu_session
from tests.core.bundle.forge import forged
from tests.core.faces import GRACE_HOPPER


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(find_model("starter"))


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("half", HALVES)
def test_a_plain_graph_gives_the_bundles_numbers(bundle, half, batch):
    model = plain_graph(bundle, half, batch=batch)
    reference = bundle.reference
    values = to_model(reference.pixels) if half == "encoder" else reference.codes
    values = np.resize(values, (batch or 5, *values.shape[1:])).astype(np.float32)
    found = cpu_session(model.SerializeToString()).run(None, {model.graph.input[0].name: values})[0]
    wanted = bundle.run_network(half, values)
    assert np.abs(found - wanted).max() < TOLERANCE * np.abs(wanted).max()
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert (first.dim_value or None) == batch


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("half", HALVES)
def test_every_operator_is_one_that_tensorrt_documents(bundle, half, batch):
    model = plain_graph(bundle, half, batch=batch)
    assert problems(model) == []
    assert set(operators(model)) <= SUPPORTED
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [
        OPSET
    ]
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"kind": "vae", "image_size": 128, "width": 8 * 10**6, "geometry": "mean_shape"},
            "another",
        ),
        (
            {"kind": "vae", "image_size": 32 * 10**4, "width": 48, "geometry": "mean_shape"},
            "another",
        ),
        ({"kind": "transformer"}, "does not hold the config"),
    ],
)
def test_a_config_that_describes_another_network_builds_none(bundle, tmp_path, model, said):
    """Of what it describes not even the memory could be had."""
    pytest.importorskip("torch", reason="the network that a config describes is torch's")
    manifest = json.dumps({"config": {"name": "x", "model": model}}).encode()
    hostile = open_bundle(forged(bundle.path, tmp_path, manifest=manifest))
    with pytest.raises(BundleError, match=said):
        engines(hostile, int8=False)


def test_what_tensorrt_does_not_document_is_named(bundle):
    model = plain_graph(bundle, "decoder")
    node = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    node.op_type = "HardSwish"
    assert problems(model) == ["operator HardSwish"]
    computed = plain_graph(bundle, "decoder")
    conv = next(node for node in computed.graph.node if node.op_type == "Conv")
    conv.input[1] = "somewhere else"
    assert "is no initialiser" in problems(computed)[0]


def test_trtexec_names_the_shapes_of_a_dynamic_batch_alone(bundle):
    words = shlex.split(trtexec(Path("out/encoder.onnx"), plain_graph(bundle, "encoder")))
    assert words[:3] == ["trtexec", "--onnx=encoder.onnx", "--saveEngine=encoder.plan"]
    assert "--maxShapes=images:16x3x128x128" in words
    fixed = trtexec(Path("decoder.onnx"), plain_graph(bundle, "decoder", batch=1))
    assert "Shapes" not in fixed


def test_a_graph_that_does_something_else_is_not_written(bundle, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        model = plain_graph(*args, **kwargs)
        weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = onnx.numpy_helper.to_array(weights)
        weights.CopyFrom(onnx.numpy_helper.from_array(2 * values, weights.name))
        return model

    monkeypatch.setattr("facemorph_core.deploy.export.plain_graph", broken)
    with pytest.raises(OutputError, match="gives other numbers than the bundle"):
        export(bundle, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_its_files_and_the_lines_for_the_device(tmp_path):
    out = tmp_path / "jetson"
    arguments = ["export", "starter", "--format", "tensorrt", "--batch", "1", "--out", str(out)]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    names = ["about.md", "decoder.onnx", "encoder.onnx", "frame.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    again = CliRunner().invoke(cli, [*arguments, "--json"])
    assert isinstance(again.exception, OutputError)
    forced = CliRunner().invoke(cli, [*arguments, "--json", "--force"], catch_exceptions=False)
    facts = json.loads(forced.stdout)
    assert all(each["trtexec"].startswith("trtexec --onnx=") for each in facts)
    assert max(each["difference"] for each in facts) < TOLERANCE


@pytest.mark.slow
def test_int8_is_small_and_near(bundle):
    pixels, landmarks = calibration_faces(bundle.manifest.image_size)
    images = to_model(bundle.geometry.see(pixels[:16], landmarks[:16]).pixels)
    model = plain_graph(bundle, "encoder")
    small = quantised(model, images)
    assert small.ByteSize() < 0.5 * model.ByteSize()
    whole = cpu_session(model.SerializeToString()).run(None, {"images": images})[0]
    found = cpu_session(small.SerializeToString()).run(None, {"images": images})[0]
    assert np.linalg.norm(found - whole) < 0.15 * np.linalg.norm(whole)
    assert not [p for p in problems(small) if p.startswith("operator")]


def test_all_engines_draw_the_same_face(bundle):
    codes = bundle.reference.codes[:2].astype(np.float32)
    drawn = {each.name: each.decode(codes) for each in engines(bundle, int8=False)}
    torch = ["torch"] if find_spec("torch") else []  # the runtime is tested without it, too
    assert list(drawn) == ["float32", "float16 weights", *torch]
    for images in drawn.values():
        np.testing.assert_allclose(images, drawn["float32"], atol=5e-3)


def test_timings_are_those_of_the_work():
    works = {"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.004)}
    short, long = timed("sleep", works, batch=2, seconds=0.05)
    assert (short.engine, long.engine) == ("short", "long")
    assert 0.001 <= short.median <= short.p95
    assert long.median >= 0.004
    assert short.frames_per_second == 2 / short.median


def test_a_photo_becomes_a_cameras_picture(tmp_path):
    assert camera_picture(GRACE_HOPPER).shape == (480, 640, 3)
    from PIL import Image

    Image.new("RGB", (300, 200)).save(tmp_path / "nobody.png")
    with pytest.raises(NoFaceFound):
        camera_picture(tmp_path / "nobody.png")
